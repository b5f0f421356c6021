#include "base/base64.h"

static int value_of(uint8_t c)
{
    if (c >= 'A' && c <= 'Z')
        return c - 'A';
    if (c >= 'a' && c <= 'z')
        return c - 'a' + 26;
    if (c >= '0' && c <= '9')
        return c - '0' + 52;
    return c == '+' ? 62 : c == '/' ? 63 : -1;
}

bool base64_decode(struct bytes text, uint8_t *room, struct bytes *out)
{
    uint8_t *at = room;
    if (text.size % 4)
        return false;
    for (size_t i = 0; i < text.size; i += 4) {
        const uint8_t *four = text.data + i;
        unsigned padding = i + 4 < text.size ? 0 : (four[3] == '=') + (four[3] == '=' && four[2] == '=');
        uint32_t bits = 0;
        for (unsigned k = 0; k < 4; k++) {
            int value = k >= 4 - padding ? 0 : value_of(four[k]);
            if (value < 0)
                return false;
            bits = bits << 6 | (uint32_t)value;
        }
        for (unsigned k = 0; k < 3 - padding; k++)
            *at++ = (uint8_t)(bits >> (16 - 8 * k));
    }
    *out = bytes_of(room, (size_t)(at - room));
    return true;
}

void base64_encode(struct bytes in, char *at)
{
    static const char letters[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    for (size_t i = 0; i < in.size; i += 3) {
        size_t left = in.size - i;
        uint32_t bits = (uint32_t)in.data[i] << 16 | (left > 1 ? (uint32_t)in.data[i + 1] << 8 : 0) | (left > 2 ? in.data[i + 2] : 0);
        *at++ = letters[bits >> 18];
        *at++ = letters[bits >> 12 & 63];
        *at++ = left > 1 ? letters[bits >> 6 & 63] : '=';
        *at++ = left > 2 ? letters[bits & 63] : '=';
    }
    *at = 0;
}
