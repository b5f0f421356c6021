#include "protocol/webhook/reach.h"

/* ---- reading ---------------------------------------------------------------------------------------------------------- */

static bool read_quad(struct bytes text, uint8_t quad[4])
{
    size_t at = 0;
    for (unsigned i = 0; i < 4; i++) {
        unsigned number = 0, digits = 0;
        if (i && (at == text.size || text.data[at++] != '.'))
            return false;
        for (; at < text.size && text.data[at] >= '0' && text.data[at] <= '9' && digits < 4; digits++)
            number = number * 10 + (text.data[at++] - '0');
        /* A number that begins with a zero is octal to some, and to others it is not. */
        if (!digits || number > 255 || (digits > 1 && text.data[at - digits] == '0'))
            return false;
        quad[i] = (uint8_t)number;
    }
    return at == text.size;
}

static int hex_digit(uint8_t c)
{
    return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

/* RFC 4291 section 2.2. */
static bool read_six(struct bytes text, uint8_t out[16])
{
    uint8_t groups[16];
    unsigned count = 0, gap = 17;    /* bytes so far, and where "::" stands among them; 17: nowhere */
    size_t at = 0;
    if (text.size >= 2 && text.data[0] == ':' && text.data[1] == ':') {
        gap = 0;
        at = 2;
    }
    while (at < text.size) {
        size_t begin = at;
        unsigned number = 0, digits = 0;
        for (; at < text.size && hex_digit(text.data[at]) >= 0 && digits < 5; digits++)
            number = number << 4 | (unsigned)hex_digit(text.data[at++]);
        if (at < text.size && text.data[at] == '.') {
            if (count > 12 || !read_quad(bytes_of(text.data + begin, text.size - begin), groups + count))
                return false;
            count += 4;
            at = text.size;
            break;
        }
        if (!digits || digits > 4 || count == 16)
            return false;
        groups[count++] = (uint8_t)(number >> 8);
        groups[count++] = (uint8_t)number;
        if (at == text.size)
            break;
        if (text.data[at++] != ':' || at == text.size)
            return false;
        if (text.data[at] == ':') {
            if (gap != 17)
                return false;
            gap = count;
            at++;
        }
    }
    if (gap == 17 ? count != 16 : count > 14)
        return false;
    unsigned front = gap == 17 ? 16 : gap;
    memset(out, 0, 16);
    memcpy(out, groups, front);
    memcpy(out + 16 - (count - front), groups + front, count - front);
    return true;
}

bool ip_address_read(struct bytes text, struct ip_address *address)
{
    *address = (struct ip_address){.size = 4};
    if (!text.size)
        return false;
    if (!memchr(text.data, ':', text.size))
        return read_quad(text, address->bytes);
    address->size = 16;
    return read_six(text, address->bytes);
}

static struct bytes trimmed(struct bytes text)
{
    while (text.size && (text.data[0] == ' ' || text.data[0] == '\t'))
        text = bytes_of(text.data + 1, text.size - 1);
    while (text.size && (text.data[text.size - 1] == ' ' || text.data[text.size - 1] == '\t'))
        text.size--;
    return text;
}

static bool read_network(struct bytes text, struct ip_network *network)
{
    const uint8_t *slash = text.size ? memchr(text.data, '/', text.size) : NULL;
    struct bytes front = slash ? bytes_of(text.data, (size_t)(slash - text.data)) : text;
    if (!ip_address_read(front, &network->address))
        return false;
    unsigned bits = network->address.size * 8u;
    if (slash) {
        struct bytes digits = bytes_of(slash + 1, text.size - front.size - 1);
        unsigned number = 0;
        if (!digits.size || digits.size > 3)
            return false;
        for (size_t i = 0; i < digits.size; i++) {
            if (digits.data[i] < '0' || digits.data[i] > '9')
                return false;
            number = number * 10 + (digits.data[i] - '0');
        }
        if (number > bits)
            return false;
        bits = number;
    }
    network->bits = (uint8_t)bits;
    return true;
}

bool ip_networks_read(struct bytes text, struct ip_networks *networks, struct bytes *wrong)
{
    for (bool more = true; more;) {
        const uint8_t *comma = text.size ? memchr(text.data, ',', text.size) : NULL;
        size_t size = comma ? (size_t)(comma - text.data) : text.size;
        *wrong = trimmed(bytes_of(text.data, size));
        if (networks->count == NETWORKS_MAX || !read_network(*wrong, &networks->items[networks->count]))
            return false;
        networks->count++;
        more = comma;
        if (more)
            text = bytes_of(comma + 1, text.size - size - 1);
    }
    return true;
}

/* ---- judging ---------------------------------------------------------------------------------------------------------- */

static bool begins_alike(const uint8_t *a, const uint8_t *b, unsigned bits)
{
    unsigned whole = bits / 8, rest = bits % 8;
    return memcmp(a, b, whole) == 0 && (!rest || ((a[whole] ^ b[whole]) >> (8 - rest)) == 0);
}

bool ip_networks_have(const struct ip_networks *networks, const struct ip_address *address)
{
    for (unsigned i = 0; i < networks->count; i++) {
        const struct ip_network *network = &networks->items[i];
        if (network->address.size == address->size && begins_alike(network->address.bytes, address->bytes, network->bits))
            return true;
    }
    return false;
}

/* IANA's registries of special-purpose addresses. */
struct special {
    uint8_t bytes[16];
    uint8_t bits;
    const char *what;
};

static const struct special specials_4[] = {
    {{0}, 8, "unspecified"}, {{10}, 8, "private"}, {{100, 64}, 10, "shared (carrier-grade NAT)"}, {{127}, 8, "loopback"}, {{169, 254}, 16, "link-local"},
    {{172, 16}, 12, "private"}, {{192, 0, 0}, 24, "special"}, {{192, 0, 2}, 24, "for documentation"}, {{192, 88, 99}, 24, "special"}, {{192, 168}, 16, "private"},
    {{198, 18}, 15, "for benchmarks"}, {{198, 51, 100}, 24, "for documentation"}, {{203, 0, 113}, 24, "for documentation"}, {{224}, 4, "multicast"}, {{240}, 4, "reserved"},
};

static const struct special specials_6[] = {
    {{0}, 128, "unspecified"}, {{[15] = 1}, 128, "loopback"}, {{0, 0x64, 0xff, 0x9b, 0, 1}, 48, "private"}, {{0xfc}, 7, "private"}, {{0xfe, 0x80}, 10, "link-local"},
    {{0xfe, 0xc0}, 10, "private"}, {{0xff}, 8, "multicast"}, {{0x20, 0x01, 0x0d, 0xb8}, 32, "for documentation"}, {{0x3f, 0xff}, 20, "for documentation"},
    {{0x20, 0x01}, 23, "special"},   /* Teredo among them */
};

/* Where an IPv6 address leads to an IPv4 one, that is put into `inside`. */
static bool leads_to_4(const uint8_t *bytes, struct ip_address *inside)
{
    static const uint8_t mapped[12] = {[10] = 0xff, 0xff}, translated[12] = {0, 0x64, 0xff, 0x9b}, zero[12] = {0};
    const uint8_t *from = NULL;
    if (memcmp(bytes, mapped, 12) == 0 || memcmp(bytes, translated, 12) == 0)
        from = bytes + 12;
    else if (memcmp(bytes, zero, 12) == 0 && load_be32(bytes + 12) > 1)      /* IPv4-compatible, RFC 4291 section 2.5.5.1 */
        from = bytes + 12;
    else if (memcmp(bytes, zero, 8) == 0 && bytes[8] == 0xff && bytes[9] == 0xff && bytes[10] == 0 && bytes[11] == 0)   /* IPv4-translated, RFC 2765 */
        from = bytes + 12;
    else if (bytes[0] == 0x20 && bytes[1] == 0x02)                           /* 6to4, RFC 3056 */
        from = bytes + 2;
    else if ((bytes[8] & 0xfd) == 0 && bytes[9] == 0 && bytes[10] == 0x5e && bytes[11] == 0xfe)   /* ISATAP, RFC 5214 */
        from = bytes + 12;
    if (!from)
        return false;
    *inside = (struct ip_address){.size = 4};
    memcpy(inside->bytes, from, 4);
    return true;
}

static const char *find_special(const struct special *specials, size_t count, const uint8_t *bytes)
{
    for (size_t i = 0; i < count; i++)
        if (begins_alike(specials[i].bytes, bytes, specials[i].bits))
            return specials[i].what;
    return NULL;
}

const char *ip_address_refusal(const struct ip_address *address, const struct ip_networks *allowed)
{
    struct ip_address inside;
    if (ip_networks_have(allowed, address))
        return NULL;
    if (address->size == 4)
        return find_special(specials_4, sizeof(specials_4) / sizeof(specials_4[0]), address->bytes);
    const char *what = find_special(specials_6, sizeof(specials_6) / sizeof(specials_6[0]), address->bytes);
    if (what)
        return what;
    if (leads_to_4(address->bytes, &inside))
        return ip_address_refusal(&inside, allowed);
    return (address->bytes[0] & 0xe0) == 0x20 ? NULL : "reserved";   /* all that is public so far lies in 2000::/3 */
}
