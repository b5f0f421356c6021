#include "sim/sim_file.h"

#include "base/err.h"

#include <stdlib.h>
#include <string.h>

static uint8_t *page_buffer(void)
{
    uint8_t *buffer = malloc(SIM_PAGE_SIZE);
    CHECK(buffer);
    return buffer;
}

static const uint8_t zeros[SIM_PAGE_SIZE];

static const uint8_t *page_bytes(const uint8_t *buffer)
{
    return buffer ? buffer : zeros;
}

struct sim_file *sim_file_new(uint32_t number)
{
    struct sim_file *file = calloc(1, sizeof(*file));
    CHECK(file);
    file->number = number;
    return file;
}

/* The page shows `buffer` (taken) in the cache from now on. */
static void page_set_now(struct sim_page *page, uint8_t *buffer)
{
    if (page->now != page->durable)
        free(page->now);
    page->now = buffer;
    page->doomed = false;
}

static void page_set_durable(struct sim_page *page)
{
    if (page->now != page->durable)
        free(page->durable);
    page->durable = page->now;
    page->doomed = false;
}

/* A buffer of the page's own that may be written. */
static uint8_t *page_writable(struct sim_page *page)
{
    if (page->now == page->durable) {
        page->now = page_buffer();
        memcpy(page->now, page_bytes(page->durable), SIM_PAGE_SIZE);
    } else if (!page->now) {
        page->now = page_buffer();
        memset(page->now, 0, SIM_PAGE_SIZE);
    }
    page->doomed = false;
    return page->now;
}

void sim_file_free(struct sim_file *file)
{
    for (uint64_t i = 0; i < file->page_count; i++) {
        page_set_now(&file->pages[i], NULL);
        free(file->pages[i].durable);
    }
    free(file->pages);
    free(file);
}

static void make_pages(struct sim_file *file, uint64_t size)
{
    uint64_t count = (size + SIM_PAGE_SIZE - 1) / SIM_PAGE_SIZE;
    if (count <= file->page_count)
        return;
    uint64_t room = file->page_count * 2 > count ? file->page_count * 2 : count;
    file->pages = realloc(file->pages, room * sizeof(*file->pages));
    CHECK(file->pages);
    memset(file->pages + file->page_count, 0, (room - file->page_count) * sizeof(*file->pages));
    file->page_count = room;
}

uint64_t sim_file_missing(const struct sim_file *file, uint64_t offset, uint64_t size)
{
    uint64_t missing = 0;
    for (uint64_t i = offset / SIM_PAGE_SIZE; i * SIM_PAGE_SIZE < offset + size; i++)
        missing += i >= file->page_count || !file->pages[i].allocated;
    return missing;
}

uint64_t sim_file_allocated(const struct sim_file *file)
{
    uint64_t count = 0;
    for (uint64_t i = 0; i < file->page_count; i++)
        count += file->pages[i].allocated;
    return count;
}

void sim_file_write(struct sim_file *file, uint64_t offset, const void *bytes, uint64_t size)
{
    const uint8_t *from = bytes;
    make_pages(file, offset + size);
    if (file->size < offset + size)
        file->size = offset + size;
    while (size > 0) {
        struct sim_page *page = &file->pages[offset / SIM_PAGE_SIZE];
        uint64_t at = offset % SIM_PAGE_SIZE, part = SIM_PAGE_SIZE - at < size ? SIM_PAGE_SIZE - at : size;
        memcpy(page_writable(page) + at, from, part);
        page->allocated = true;
        from += part;
        offset += part;
        size -= part;
    }
}

uint64_t sim_file_read(const struct sim_file *file, uint64_t offset, void *to, uint64_t size)
{
    if (offset >= file->size)
        return 0;
    if (size > file->size - offset)
        size = file->size - offset;
    uint8_t *at = to;
    for (uint64_t left = size; left > 0;) {
        uint64_t index = offset / SIM_PAGE_SIZE, skip = offset % SIM_PAGE_SIZE;
        uint64_t part = SIM_PAGE_SIZE - skip < left ? SIM_PAGE_SIZE - skip : left;
        memcpy(at, page_bytes(index < file->page_count ? file->pages[index].now : NULL) + skip, part);
        at += part;
        offset += part;
        left -= part;
    }
    return size;
}

static void zero_range(struct sim_file *file, uint64_t offset, uint64_t size, bool allocate)
{
    while (size > 0) {
        uint64_t index = offset / SIM_PAGE_SIZE, at = offset % SIM_PAGE_SIZE;
        uint64_t part = SIM_PAGE_SIZE - at < size ? SIM_PAGE_SIZE - at : size;
        if (index >= file->page_count)
            return;
        struct sim_page *page = &file->pages[index];
        if (part == SIM_PAGE_SIZE) {
            if (page->now)
                page_set_now(page, NULL);
            page->allocated = allocate;
        } else {
            if (page->now)
                memset(page_writable(page) + at, 0, part);
            page->allocated |= allocate;
        }
        offset += part;
        size -= part;
    }
}

void sim_file_allocate(struct sim_file *file, uint64_t offset, uint64_t size)
{
    make_pages(file, offset + size);
    zero_range(file, offset, size, true);
    if (file->size < offset + size)
        file->size = offset + size;
}

void sim_file_truncate(struct sim_file *file, uint64_t size)
{
    uint64_t end = file->page_count * SIM_PAGE_SIZE;
    if (size < end)
        zero_range(file, size, end - size, false);
    file->size = size;
}

void sim_file_sync(struct sim_file *file)
{
    for (uint64_t i = 0; i < file->page_count; i++)
        if (file->pages[i].now != file->pages[i].durable && !file->pages[i].doomed)
            page_set_durable(&file->pages[i]);
    file->durable_size = file->size;
}

void sim_file_sync_range(struct sim_file *file, uint64_t offset, uint64_t size)
{
    for (uint64_t i = offset / SIM_PAGE_SIZE; i < file->page_count && i * SIM_PAGE_SIZE < offset + size; i++)
        if (file->pages[i].now != file->pages[i].durable && !file->pages[i].doomed)
            page_set_durable(&file->pages[i]);
    file->durable_size = file->size;
}

void sim_file_doom(struct sim_file *file, uint64_t offset, uint64_t size)
{
    for (uint64_t i = offset / SIM_PAGE_SIZE; i < file->page_count && i < (offset + size) / SIM_PAGE_SIZE + 1; i++)
        if (file->pages[i].now != file->pages[i].durable)
            file->pages[i].doomed = true;
}

void sim_file_write_back(struct sim_file *file, struct random *random)
{
    if (file->page_count == 0)
        return;
    struct sim_page *page = &file->pages[random_below(random, file->page_count)];
    if (page->now != page->durable && !page->doomed)
        page_set_durable(page);
}

static void page_lose_power(struct sim_page *page, struct random *random, struct sim_losses *losses)
{
    if (page->now == page->durable)
        return;
    switch (random_below(random, page->doomed ? 4 : 3)) {
    case 0:
        losses->kept++;
        page_set_durable(page);
        return;
    case 1: {
        losses->torn++;
        uint8_t *mixed = page_buffer();
        uint64_t sectors = random_next(random);
        for (unsigned i = 0; i < SIM_PAGE_SIZE / SIM_SECTOR_SIZE; i++) {
            const uint8_t *from = page_bytes((sectors >> i) & 1 ? page->now : page->durable);
            memcpy(mixed + i * SIM_SECTOR_SIZE, from + i * SIM_SECTOR_SIZE, SIM_SECTOR_SIZE);
        }
        page_set_now(page, mixed);
        page_set_durable(page);
        return;
    }
    default:
        losses->lost++;
        page_set_now(page, page->durable);
        return;
    }
}

void sim_file_fail_direct(struct sim_file *file, struct random *random, uint64_t offset, uint64_t size)
{
    struct sim_losses losses = {0, 0, 0};
    for (uint64_t i = offset / SIM_PAGE_SIZE; i < file->page_count && i * SIM_PAGE_SIZE < offset + size; i++) {
        file->pages[i].doomed = false;
        page_lose_power(&file->pages[i], random, &losses);
    }
    file->durable_size = file->size;
}

void sim_file_lose_power(struct sim_file *file, struct random *random, struct sim_losses *losses)
{
    for (uint64_t i = 0; i < file->page_count; i++)
        page_lose_power(&file->pages[i], random, losses);
    if (file->size != file->durable_size) {
        uint64_t low = file->size < file->durable_size ? file->size : file->durable_size;
        uint64_t high = file->size ^ file->durable_size ^ low;
        switch (random_below(random, 3)) {
        case 0: file->size = low; break;
        case 1: file->size = high; break;
        default:
            file->size = random_between(random, low / SIM_PAGE_SIZE, high / SIM_PAGE_SIZE) * SIM_PAGE_SIZE;
            if (file->size < low)
                file->size = low;
        }
    }
    sim_file_truncate(file, file->size);
    sim_file_sync(file);
}

bool sim_file_rot(struct sim_file *file, struct random *random, uint64_t *offset, unsigned *bit)
{
    uint64_t filled = 0;
    for (uint64_t i = 0; i < file->page_count; i++)
        filled += file->pages[i].now != NULL && file->pages[i].now == file->pages[i].durable;
    if (filled == 0)
        return false;
    uint64_t choice = random_below(random, filled), index = 0;
    for (;; index++)
        if (file->pages[index].now != NULL && file->pages[index].now == file->pages[index].durable && choice-- == 0)
            break;
    *offset = index * SIM_PAGE_SIZE + random_below(random, SIM_PAGE_SIZE);
    *bit = (unsigned)random_below(random, 8);
    file->pages[index].now[*offset % SIM_PAGE_SIZE] ^= (uint8_t)(1u << *bit);
    return *offset < file->size;
}
