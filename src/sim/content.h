/* What a simulated message is made of: everything follows from the simulation's seed and the message's number, so that what arrives can be compared
 * byte for byte without keeping it. The number is the property message-id, 16 hexadecimal digits. */
#ifndef SIM_CONTENT_H
#define SIM_CONTENT_H

#include "base/bytes.h"
#include "sim/random.h"

#define CONTENT_PROPERTIES_MAX 1024u
#define CONTENT_COLOURS 3u

struct content {
    bool persistent;
    unsigned colour;                 /* the header "colour", 0 … CONTENT_COLOURS - 1: what the headers exchange routes by */
    uint64_t body_size, body_seed;
    uint16_t properties_size;
    uint8_t properties[CONTENT_PROPERTIES_MAX];
};

/* How large bodies are: most below `usual`, a few up to `largest`; how many of 16 are persistent. */
struct content_taste {
    uint64_t seed, usual, largest;
    unsigned persistent;
};

void content_make(const struct content_taste *taste, uint64_t number, struct content *content);

/* Writes content->body_size bytes. */
void content_body(const struct content *content, uint8_t *to);

/* The number that the properties bear; 0: none. */
uint64_t content_number(struct bytes properties);

#endif
