/* Access tokens: texts that stand for a user in a virtual host, made by chance, shown once, kept as a hash. A token is
 *
 *     gwt_ ID _ SECRET          ID: 16 hexadecimal digits, by which it is found; SECRET: 64 of them, 256 bits of chance
 *
 * and what is kept of it is a parameter of the virtual host, of the component "token", whose name is the ID:
 *
 *     {"user": …, "hash": the SHA-256 of the whole text in hexadecimal digits, "expires": milliseconds since 1970, if ever,
 *      "permissions": {"configure": …, "write": …, "read": …}, if it may do less than its user, "description": if there is one}
 *
 * A hash without salt will do: nobody guesses 256 bits. Pure functions on base. */
#ifndef PROTOCOL_TOKEN_TOKEN_H
#define PROTOCOL_TOKEN_TOKEN_H

#include "base/bytes.h"

#include <jansson.h>
#include <stdint.h>

#define TOKEN_COMPONENT "token"
#define TOKEN_RANDOM_SIZE 40u        /* bytes of chance that one is made of */
#define TOKEN_ID_SIZE 16u
#define TOKEN_SIZE (4u + TOKEN_ID_SIZE + 1u + 64u)
#define TOKEN_HASH_SIZE 64u
#define TOKEN_DESCRIPTION_MAX 255u

/* Writes the text and a zero behind it; the ID is its digits from the fifth one on. */
void token_make(const uint8_t random[TOKEN_RANDOM_SIZE], char text[TOKEN_SIZE + 1]);

/* Is this a token's text? *id lies in it. */
bool token_read(struct bytes text, struct bytes *id);

/* Its hash, and a zero behind it. False: it could not be computed. */
bool token_hash(struct bytes text, char hash[TOKEN_HASH_SIZE + 1]);

/* What is kept of one. Texts lie in `root`, which token_grant_deinit gives back. */
struct token_grant {
    json_t *root;
    struct bytes user, hash, description;
    uint64_t expires_ms;             /* since 1970; 0: never */
    bool restricted;                 /* it may do no more than these say: */
    struct bytes configure, write, read;   /* regular expressions; empty: nothing */
};

/* False: `json` is none. */
bool token_grant_read(struct bytes json, struct token_grant *grant);
void token_grant_deinit(struct token_grant *grant);

/* "2026-05-01T12:00:00Z" */
#define TOKEN_TIME_SIZE 32u
const char *token_time(uint64_t wall_ms, char text[TOKEN_TIME_SIZE]);

/* In constant time: is this the text that is kept? */
bool token_matches(const struct token_grant *grant, struct bytes text);

/* The JSON of one; free() it. NULL: out of memory, or a text is no UTF-8. */
char *token_grant_write(const struct token_grant *grant);

#endif
