/* The frames of AMQP 0-9-1 (specification, section 2.3 and 4.2) as bytes. Sans-I/O: nothing here allocates or keeps what it was given.
 *
 *    0      1         3             7                  size+7     size+8
 *   ┌──────┬─────────┬─────────────┬──────────────────┬──────────┐
 *   │ type │ channel │ size        │ payload …        │ 0xCE     │   big-endian
 *   └──────┴─────────┴─────────────┴──────────────────┴──────────┘
 *
 * A connection begins with the protocol header: 'A' 'M' 'Q' 'P' 0 0 9 1.
 */
#ifndef PROTOCOL_AMQP_WIRE_H
#define PROTOCOL_AMQP_WIRE_H

#include "base/bytes.h"

#define AMQP_FRAME_METHOD 1
#define AMQP_FRAME_HEADER 2
#define AMQP_FRAME_BODY 3
#define AMQP_FRAME_HEARTBEAT 8

#define AMQP_FRAME_END 0xCE
#define AMQP_FRAME_HEADER_SIZE 7u
#define AMQP_FRAME_OVERHEAD 8u        /* header and end */
#define AMQP_FRAME_MIN_SIZE 4096u     /* the smallest frame-max that may be negotiated */
#define AMQP_PROTOCOL_HEADER_SIZE 8u

#define AMQP_CLASS_BASIC 60

/* What every decoder answers. */
enum wire_answer {
    WIRE_OK,
    WIRE_MORE,   /* the bytes end before the thing does: ask again with more of them */
    WIRE_BAD,    /* no more bytes will make sense of it */
};

struct amqp_frame_header {
    uint8_t type;
    uint16_t channel;
    uint32_t size;         /* of the payload */
};

struct amqp_frame {
    uint8_t type;
    uint16_t channel;
    struct bytes payload;  /* points into the input */
    size_t size;           /* of the whole frame */
};

extern const uint8_t amqp_protocol_header[AMQP_PROTOCOL_HEADER_SIZE];

/* Does `in` begin with the protocol header of 0-9-1? BAD as soon as one byte differs. */
enum wire_answer amqp_protocol_header_read(struct bytes in);

/* The first seven bytes of `in`, whatever they say. Needs them to be there. */
static inline struct amqp_frame_header amqp_frame_header_read(const uint8_t *in)
{
    return (struct amqp_frame_header){.type = in[0], .channel = load_be16(in + 1), .size = load_be32(in + 3)};
}

/* The whole frame at the start of `in`. BAD when it is larger than `frame_max` (0: no limit) or does not end in 0xCE. The type is not judged. */
enum wire_answer amqp_frame_read(struct bytes in, uint32_t frame_max, struct amqp_frame *frame);

/* Writes the seven bytes; returns where the payload begins. */
static inline uint8_t *amqp_frame_begin(uint8_t *at, uint8_t type, uint16_t channel, uint32_t size)
{
    at[0] = type;
    store_be16(at + 1, channel);
    store_be32(at + 3, size);
    return at + AMQP_FRAME_HEADER_SIZE;
}

/* Writes a heartbeat (AMQP_FRAME_OVERHEAD bytes); returns where it ends. */
static inline uint8_t *amqp_heartbeat_write(uint8_t *at)
{
    at = amqp_frame_begin(at, AMQP_FRAME_HEARTBEAT, 0, 0);
    *at++ = AMQP_FRAME_END;
    return at;
}

/* memcpy, called by amqp_copy. */
void amqp_copy_long(uint8_t *to, const uint8_t *from, size_t size);

/* memcpy for what is mostly a few bytes, such as names: neither a call nor the string instructions that compilers like, which take longer to begin than this
 * does to end. */
static inline void amqp_copy(uint8_t *to, const uint8_t *from, size_t size)
{
    if (size > 32) {
        amqp_copy_long(to, from, size);
    } else if (size >= 16) {
        memcpy(to, from, 16);
        memcpy(to + size - 16, from + size - 16, 16);
    } else if (size >= 8) {
        memcpy(to, from, 8);
        memcpy(to + size - 8, from + size - 8, 8);
    } else if (size >= 4) {
        memcpy(to, from, 4);
        memcpy(to + size - 4, from + size - 4, 4);
    } else if (size) {
        to[0] = from[0];
        to[size / 2] = from[size / 2];
        to[size - 1] = from[size - 1];
    }
}

/* Is `text` well-formed UTF-8 (RFC 3629: no surrogates, nothing above U+10FFFF, no overlong forms)? */
bool amqp_utf8_valid(struct bytes text);

#endif
