#include "protocol/token/token.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <stdio.h>

#define PREFIX "gwt_"
#define PREFIX_SIZE 4u

static void put_hex(const uint8_t *bytes, size_t size, char *at)
{
    static const char digits[] = "0123456789abcdef";
    for (size_t i = 0; i < size; i++) {
        *at++ = digits[bytes[i] >> 4];
        *at++ = digits[bytes[i] & 15];
    }
}

static bool is_hex(const uint8_t *at, size_t size)
{
    for (size_t i = 0; i < size; i++)
        if (!(at[i] >= '0' && at[i] <= '9') && !(at[i] >= 'a' && at[i] <= 'f'))
            return false;
    return true;
}

void token_make(const uint8_t random[TOKEN_RANDOM_SIZE], char text[TOKEN_SIZE + 1])
{
    memcpy(text, PREFIX, PREFIX_SIZE);
    put_hex(random, TOKEN_ID_SIZE / 2, text + PREFIX_SIZE);
    text[PREFIX_SIZE + TOKEN_ID_SIZE] = '_';
    put_hex(random + TOKEN_ID_SIZE / 2, TOKEN_RANDOM_SIZE - TOKEN_ID_SIZE / 2, text + PREFIX_SIZE + TOKEN_ID_SIZE + 1);
    text[TOKEN_SIZE] = '\0';
}

bool token_read(struct bytes text, struct bytes *id)
{
    const uint8_t *at = text.data;
    if (text.size != TOKEN_SIZE || memcmp(at, PREFIX, PREFIX_SIZE) != 0 || !is_hex(at + PREFIX_SIZE, TOKEN_ID_SIZE) || at[PREFIX_SIZE + TOKEN_ID_SIZE] != '_' ||
        !is_hex(at + PREFIX_SIZE + TOKEN_ID_SIZE + 1, TOKEN_SIZE - PREFIX_SIZE - TOKEN_ID_SIZE - 1))
        return false;
    *id = bytes_of(at + PREFIX_SIZE, TOKEN_ID_SIZE);
    return true;
}

bool token_hash(struct bytes text, char hash[TOKEN_HASH_SIZE + 1])
{
    uint8_t digest[EVP_MAX_MD_SIZE];
    unsigned size = 0;
    if (!EVP_Digest(text.data, text.size, digest, &size, EVP_sha256(), NULL) || size != TOKEN_HASH_SIZE / 2)
        return false;
    put_hex(digest, size, hash);
    hash[TOKEN_HASH_SIZE] = '\0';
    return true;
}

/* ---- what is kept ----------------------------------------------------------------------------------------------------- */

/* A text of at most `most` bytes; one that need not be there is empty then. */
static bool read_text(const json_t *object, const char *name, size_t most, bool needed, struct bytes *text)
{
    const json_t *value = json_object_get(object, name);
    *text = (struct bytes){0};
    if (!value)
        return !needed;
    if (!json_is_string(value) || json_string_length(value) > most)
        return false;
    *text = bytes_of(json_string_value(value), json_string_length(value));
    return true;
}

static bool read_permissions(struct token_grant *grant)
{
    const json_t *permissions = json_object_get(grant->root, "permissions");
    grant->restricted = permissions;
    return !permissions || (json_is_object(permissions) && read_text(permissions, "configure", 4096, false, &grant->configure) &&
                            read_text(permissions, "write", 4096, false, &grant->write) && read_text(permissions, "read", 4096, false, &grant->read));
}

bool token_grant_read(struct bytes json, struct token_grant *grant)
{
    *grant = (struct token_grant){.root = json_loadb((const char *)json.data, json.size, JSON_REJECT_DUPLICATES, NULL)};
    const json_t *expires = json_object_get(grant->root, "expires");
    bool good = json_is_object(grant->root) && read_text(grant->root, "user", UINT8_MAX, true, &grant->user) && grant->user.size &&
                read_text(grant->root, "hash", TOKEN_HASH_SIZE, true, &grant->hash) && grant->hash.size == TOKEN_HASH_SIZE &&
                is_hex(grant->hash.data, TOKEN_HASH_SIZE) && read_text(grant->root, "description", TOKEN_DESCRIPTION_MAX, false, &grant->description) &&
                (!expires || (json_is_integer(expires) && json_integer_value(expires) > 0)) && read_permissions(grant);
    if (!good) {
        token_grant_deinit(grant);
        return false;
    }
    grant->expires_ms = (uint64_t)json_integer_value(expires);
    return true;
}

void token_grant_deinit(struct token_grant *grant)
{
    json_decref(grant->root);
    *grant = (struct token_grant){0};
}

bool token_matches(const struct token_grant *grant, struct bytes text)
{
    char hash[TOKEN_HASH_SIZE + 1];
    return token_hash(text, hash) && CRYPTO_memcmp(hash, grant->hash.data, TOKEN_HASH_SIZE) == 0;
}

/* Days since 1970 to a civil date, in eras of 400 years that begin in March. */
const char *token_time(uint64_t wall_ms, char text[TOKEN_TIME_SIZE])
{
    uint64_t seconds = wall_ms / 1000, second = seconds % 86400, shifted = seconds / 86400 + 719468, era = shifted / 146097, of_era = shifted % 146097;
    uint64_t year_of_era = (of_era - of_era / 1460 + of_era / 36524 - of_era / 146096) / 365;
    uint64_t of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100), month = (5 * of_year + 2) / 153;
    unsigned year = (unsigned)((year_of_era + era * 400 + (month >= 10)) % 10000), day = (unsigned)(of_year - (153 * month + 2) / 5 + 1) % 100;
    snprintf(text, TOKEN_TIME_SIZE, "%04u-%02u-%02uT%02u:%02u:%02uZ", year, (unsigned)(month < 10 ? month + 3 : month - 9), day, (unsigned)(second / 3600),
             (unsigned)(second / 60 % 60), (unsigned)(second % 60));
    return text;
}

static bool put(json_t *object, const char *name, struct bytes text)
{
    return json_object_set_new(object, name, json_stringn((const char *)(text.data ? text.data : (const uint8_t *)""), text.size)) == 0;
}

char *token_grant_write(const struct token_grant *grant)
{
    json_t *root = json_object(), *permissions = grant->restricted ? json_object() : NULL;
    bool good = put(root, "user", grant->user) && put(root, "hash", grant->hash) &&
                (!grant->expires_ms || json_object_set_new(root, "expires", json_integer((json_int_t)grant->expires_ms)) == 0) &&
                (!grant->description.size || put(root, "description", grant->description));
    if (good && grant->restricted) {
        good = put(permissions, "configure", grant->configure) && put(permissions, "write", grant->write) && put(permissions, "read", grant->read) &&
               json_object_set(root, "permissions", permissions) == 0;
    }
    char *text = good ? json_dumps(root, JSON_COMPACT) : NULL;
    json_decref(permissions);
    json_decref(root);
    return text;
}
