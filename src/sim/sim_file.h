/* A simulated file: each 4 KiB page as the system's cache has it and as the platter has it.
 *
 * A write reaches the cache only; a sync copies the cache to the platter. When the power goes, every page that differs is decided by chance:
 * the old page, the new one, or a mixture of their 512-byte sectors. A page whose sync failed counts as clean, as with Linux: readable until the
 * power goes, and never written by a later sync. */
#ifndef SIM_FILE_H
#define SIM_FILE_H

#include "sim/random.h"

#define SIM_PAGE_SIZE 4096u
#define SIM_SECTOR_SIZE 512u

struct sim_page {
    uint8_t *now, *durable;   /* equal when clean; NULL: zeros */
    bool allocated;           /* takes room on the disk */
    bool doomed;              /* its sync failed */
};

struct sim_file {
    uint32_t number;          /* unique in the simulation */
    uint32_t references;      /* names, pending operations on names, handles */
    uint32_t visible;         /* the current names and the handles among them */
    uint64_t size, durable_size;
    struct sim_page *pages;
    uint64_t page_count;      /* of `pages` */
    struct sim_file *next;    /* the disk's list of all */
};

/* What the power took. */
struct sim_losses {
    uint64_t lost, kept, torn;   /* pages */
};

struct sim_file *sim_file_new(uint32_t number);
void sim_file_free(struct sim_file *file);

/* Pages in the range that take no room yet. */
uint64_t sim_file_missing(const struct sim_file *file, uint64_t offset, uint64_t size);
uint64_t sim_file_allocated(const struct sim_file *file);

void sim_file_write(struct sim_file *file, uint64_t offset, const void *bytes, uint64_t size);

/* Answers the bytes read: fewer than `size` only at the end of the file. */
uint64_t sim_file_read(const struct sim_file *file, uint64_t offset, void *to, uint64_t size);

/* The range becomes zeros that take room; the file grows to its end. */
void sim_file_allocate(struct sim_file *file, uint64_t offset, uint64_t size);
void sim_file_truncate(struct sim_file *file, uint64_t size);

void sim_file_sync(struct sim_file *file);
void sim_file_sync_range(struct sim_file *file, uint64_t offset, uint64_t size);

/* A sync of the range failed. */
void sim_file_doom(struct sim_file *file, uint64_t offset, uint64_t size);

/* A transfer past the cache failed: each page of the range is what it was, what it was to be, or a mixture, and that is what everybody reads. */
void sim_file_fail_direct(struct sim_file *file, struct random *random, uint64_t offset, uint64_t size);

/* The system writes one page back on its own. */
void sim_file_write_back(struct sim_file *file, struct random *random);

void sim_file_lose_power(struct sim_file *file, struct random *random, struct sim_losses *losses);

/* Turns one bit of a page that holds something, on the platter and in the cache. False: there is none. */
bool sim_file_rot(struct sim_file *file, struct random *random, uint64_t *offset, unsigned *bit);

#endif
