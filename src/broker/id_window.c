#include "broker/id_window.h"

#include <stdlib.h>

#define CAPACITY_MIN 64u
#define TRIM_MAX 64u              /* entries in one trim of a ring */
#define PLACE_BITS 31u
#define PLACE_MASK 0x7FFFFFFFu

/* ---- rings ----------------------------------------------------------------------------------------------------------- */

static struct known_id *entry_at(const struct id_ring *ring, uint64_t place)
{
    return &ring->segments[place / ID_SEGMENT & (ring->capacity - 1)][place % ID_SEGMENT];
}

static bool make_room(struct id_ring *ring)
{
    uint64_t number = ring->next / ID_SEGMENT, first = ring->first / ID_SEGMENT;
    if (ring->next % ID_SEGMENT && ring->next > ring->first)
        return true;
    if (number - first >= ring->capacity) {
        uint32_t capacity = ring->capacity ? ring->capacity * 2 : 4;
        struct known_id **grown = calloc(capacity, sizeof(*grown));
        if (!grown)
            return false;
        for (uint64_t i = first; i < number; i++)
            grown[i & (capacity - 1)] = ring->segments[i & (ring->capacity - 1)];
        free(ring->segments);
        ring->segments = grown;
        ring->capacity = capacity;
    }
    struct known_id **segment = &ring->segments[number & (ring->capacity - 1)];
    if (!*segment)
        *segment = malloc(ID_SEGMENT * sizeof(**segment));
    return *segment != NULL;
}

/* The oldest entry goes, and its segment with the last one that is in it. */
static void drop_first(struct id_ring *ring)
{
    uint64_t number = ring->first++ / ID_SEGMENT;
    if (ring->first / ID_SEGMENT == number)
        return;
    free(ring->segments[number & (ring->capacity - 1)]);
    ring->segments[number & (ring->capacity - 1)] = NULL;
}

/* ---- slots ----------------------------------------------------------------------------------------------------------- */

static uint32_t print_of(struct hash128 hash) { return (uint32_t)(hash.high >> 32) | 1; }   /* no slot of one that is there is 0 */

static uint64_t home_of(const struct id_window *window, uint64_t slot)
{
    return (slot >> 32) * window->capacity >> 32;
}

static struct known_id *entry_of(const struct id_window *window, uint64_t slot, struct id_ring **ring)
{
    *ring = (struct id_ring *)(uintptr_t)&window->rings[slot >> PLACE_BITS & 1];
    return entry_at(*ring, (*ring)->first + (((uint32_t)slot - (uint32_t)(*ring)->first) & PLACE_MASK));
}

static uint64_t put_slot(struct id_window *window, uint64_t slot)
{
    uint64_t i = home_of(window, slot);
    while (window->slots[i])
        i = (i + 1) & (window->capacity - 1);
    window->slots[i] = slot;
    return i;
}

static bool resize(struct id_window *window, uint64_t capacity)
{
    uint64_t *before = window->slots, count = window->capacity;
    uint64_t *slots = calloc(capacity, sizeof(*slots));
    if (!slots)
        return false;
    window->slots = slots;
    window->capacity = capacity;
    for (uint64_t i = 0; i < count; i++)
        if (before[i])
            put_slot(window, before[i]);
    free(before);
    return true;
}

/* The slot of an id; UINT64_MAX: it is not known. */
static uint64_t find_slot(const struct id_window *window, struct hash128 hash)
{
    if (!window->capacity)
        return UINT64_MAX;
    uint32_t print = print_of(hash);
    for (uint64_t i = home_of(window, (uint64_t)print << 32); window->slots[i]; i = (i + 1) & (window->capacity - 1)) {
        if (window->slots[i] >> 32 != print)
            continue;
        struct id_ring *ring;
        const struct known_id *entry = entry_of(window, window->slots[i], &ring);
        if (entry->hash.low == hash.low && entry->hash.high == hash.high)
            return i;
    }
    return UINT64_MAX;
}

/* Those behind it that belong before it move up. */
static void empty_slot(struct id_window *window, uint64_t i)
{
    uint64_t mask = window->capacity - 1;
    for (uint64_t k = (i + 1) & mask; window->slots[k]; k = (k + 1) & mask) {
        uint64_t home = home_of(window, window->slots[k]);
        if (((k - home) & mask) < ((k - i) & mask))
            continue;
        window->slots[i] = window->slots[k];
        i = k;
    }
    window->slots[i] = 0;
    window->used--;
}

static struct id_ring *forget(struct id_window *window, uint64_t i)
{
    struct id_ring *ring;
    entry_of(window, window->slots[i], &ring)->at_ms = 0;
    ring->live--;
    empty_slot(window, i);
    return ring;
}

/* ---- all of it ------------------------------------------------------------------------------------------------------- */

void id_window_deinit(struct id_window *window)
{
    for (unsigned i = 0; i < ID_RINGS; i++) {
        struct id_ring *ring = &window->rings[i];
        for (uint32_t k = 0; k < ring->capacity; k++)
            free(ring->segments[k]);
        free(ring->segments);
    }
    free(window->slots);
    *window = (struct id_window){0};
}

bool id_window_find(const struct id_window *window, struct hash128 hash, uint64_t *at_ms)
{
    uint64_t i = find_slot(window, hash);
    struct id_ring *ring;
    if (i == UINT64_MAX)
        return false;
    *at_ms = entry_of(window, window->slots[i], &ring)->at_ms;
    return true;
}

enum gw_err id_window_add(struct id_window *window, unsigned number, struct hash128 hash, uint64_t at_ms)
{
    struct id_ring *ring = &window->rings[number];
    if (ring->next - ring->first >= PLACE_MASK)
        return GW_ERR_NOMEM;
    if (!make_room(ring) || ((window->used + 1) * 5 > window->capacity * 4 && !resize(window, window->capacity ? window->capacity * 2 : CAPACITY_MIN)))
        return GW_ERR_NOMEM;
    id_window_remove(window, hash);
    *entry_at(ring, ring->next) = (struct known_id){hash, at_ms};
    put_slot(window, (uint64_t)print_of(hash) << 32 | (uint64_t)number << PLACE_BITS | (ring->next & PLACE_MASK));
    ring->next++;
    ring->live++;
    window->used++;
    return GW_OK;
}

void id_window_remove(struct id_window *window, struct hash128 hash)
{
    uint64_t i = find_slot(window, hash);
    if (i == UINT64_MAX)
        return;
    struct id_ring *ring = forget(window, i);
    while (ring->next > ring->first && !entry_at(ring, ring->next - 1)->at_ms)
        ring->next--;   /* what is taken back again and again leaves nothing behind */
}

unsigned id_window_trim(struct id_window *window, uint64_t gone_ms, uint64_t over_ms, uint64_t most)
{
    unsigned early = 0;
    for (unsigned number = 0; number < ID_RINGS; number++) {
        struct id_ring *ring = &window->rings[number];
        for (unsigned i = 0; i < TRIM_MAX && ring->first < ring->next; i++) {
            const struct known_id *entry = entry_at(ring, ring->first);
            if (entry->at_ms && entry->at_ms >= gone_ms && ring->live <= most)
                break;
            if (entry->at_ms) {
                early += entry->at_ms >= over_ms;
                forget(window, find_slot(window, entry->hash));
            }
            drop_first(ring);
        }
    }
    if (window->capacity > CAPACITY_MIN && window->used * 10 < window->capacity * 3 && window->used * 5 < window->capacity / 2 * 4)
        resize(window, window->capacity / 2);
    return early;
}

const struct known_id *id_window_next(const struct id_window *window, unsigned number, uint64_t *place)
{
    const struct id_ring *ring = &window->rings[number];
    uint64_t at = ring->first + *place;
    while (at < ring->next && !entry_at(ring, at)->at_ms)
        at++;
    *place = at - ring->first + 1;
    return at < ring->next ? entry_at(ring, at) : NULL;
}

uint64_t id_window_bytes(const struct id_window *window)
{
    uint64_t bytes = window->capacity * sizeof(*window->slots);
    for (unsigned number = 0; number < ID_RINGS; number++) {
        const struct id_ring *ring = &window->rings[number];
        bytes += ring->capacity * sizeof(*ring->segments);
        for (uint32_t i = 0; i < ring->capacity; i++)
            bytes += ring->segments[i] ? ID_SEGMENT * sizeof(**ring->segments) : 0;
    }
    return bytes;
}
