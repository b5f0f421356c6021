#include "protocol/amqp/wire.h"

const uint8_t amqp_protocol_header[AMQP_PROTOCOL_HEADER_SIZE] = {'A', 'M', 'Q', 'P', 0, 0, 9, 1};

void amqp_copy_long(uint8_t *to, const uint8_t *from, size_t size)
{
    memcpy(to, from, size);
}

enum wire_answer amqp_protocol_header_read(struct bytes in)
{
    size_t size = in.size < AMQP_PROTOCOL_HEADER_SIZE ? in.size : AMQP_PROTOCOL_HEADER_SIZE;
    if (size && memcmp(in.data, amqp_protocol_header, size) != 0)
        return WIRE_BAD;
    return size < AMQP_PROTOCOL_HEADER_SIZE ? WIRE_MORE : WIRE_OK;
}

enum wire_answer amqp_frame_read(struct bytes in, uint32_t frame_max, struct amqp_frame *frame)
{
    if (in.size < AMQP_FRAME_HEADER_SIZE)
        return WIRE_MORE;
    struct amqp_frame_header header = amqp_frame_header_read(in.data);
    if (frame_max && header.size > frame_max - AMQP_FRAME_OVERHEAD)
        return WIRE_BAD;
    if (in.size - AMQP_FRAME_HEADER_SIZE <= header.size)
        return WIRE_MORE;
    if (in.data[AMQP_FRAME_HEADER_SIZE + header.size] != AMQP_FRAME_END)
        return WIRE_BAD;
    frame->type = header.type;
    frame->channel = header.channel;
    frame->payload = bytes_of(in.data + AMQP_FRAME_HEADER_SIZE, header.size);
    frame->size = (size_t)header.size + AMQP_FRAME_OVERHEAD;
    return WIRE_OK;
}

/* How many bytes the sequence takes that `lead` begins; 0: no sequence begins with it. */
static unsigned utf8_sequence_size(uint8_t lead)
{
    if (lead < 0x80)
        return 1;
    if (lead >= 0xC2 && lead <= 0xDF)
        return 2;
    if (lead >= 0xE0 && lead <= 0xEF)
        return 3;
    return lead >= 0xF0 && lead <= 0xF4 ? 4 : 0;
}

/* The second byte's range excludes overlong forms, surrogates and what lies above U+10FFFF (RFC 3629, section 4). */
static bool utf8_second_valid(uint8_t lead, uint8_t second)
{
    uint8_t low = lead == 0xE0 ? 0xA0 : lead == 0xF0 ? 0x90 : 0x80;
    uint8_t high = lead == 0xED ? 0x9F : lead == 0xF4 ? 0x8F : 0xBF;
    return second >= low && second <= high;
}

bool amqp_utf8_valid(struct bytes text)
{
    const uint8_t *at = text.data;
    size_t left = text.size;
    while (left) {
        if (left >= 8 && (load_le64(at) & 0x8080808080808080u) == 0) {
            at += 8;
            left -= 8;
            continue;
        }
        unsigned size = utf8_sequence_size(at[0]);
        if (size == 0 || size > left)
            return false;
        if (size > 1 && !utf8_second_valid(at[0], at[1]))
            return false;
        for (unsigned i = 2; i < size; i++) {
            if ((at[i] & 0xC0) != 0x80)
                return false;
        }
        at += size;
        left -= size;
    }
    return true;
}
