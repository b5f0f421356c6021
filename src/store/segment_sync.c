/* Making everything durable that the segment store has written: writes run out, every file that was written to is synced, then the directory. */
#include "store/segment_state.h"

#include "base/bugs.h"

#include <stdlib.h>

/* Tells everybody who asked: whatever was written when they did is durable, and nothing was written since. */
static void finish_sync(struct segment_store *store)
{
    struct sync_request *request = store->requests;
    store->requests = NULL;
    store->requests_end = &store->requests;
    enum gw_err err = store->names_failed ? GW_ERR_FAILED : store->sync_err;
    for (unsigned i = 0; i < store->count; i++)
        if (store->segments[i]->sync_failed && store->segments[i]->live > 0)
            err = GW_ERR_FAILED;
    store->syncing = false;
    while (request) {
        struct sync_request *next = request->next;
        request->done(store->owner, request->context, err);
        free(request);
        request = next;
    }
    segment_start_held(store);
    segment_go_on_syncing(store);
}

static void sync_ended(struct segment_store *store)
{
    if (--store->syncs == 0)
        finish_sync(store);
}

static void sync_done(struct disk_op *op)
{
    struct segment *segment = op->owner;
    segment_ended(segment);
    if (op->error != 0) {
        /* The system may have dropped what it could not write: a second sync that succeeds would mean nothing. */
        alarm_raise(segment->store->alarms, ALARM_ERROR, "%s: syncing failed: %s", segment->name, gw_err_text(gw_err_from_errno(op->error)));
        segment->sync_failed = true;
        segment_seal(segment->store, segment);
    }
    sync_ended(segment->store);
}

static void directory_done(struct disk_op *op)
{
    struct segment_store *store = op->owner;
    store->operations--;
    if (op->error != 0) {
        alarm_raise(store->alarms, ALARM_ERROR, "%s: syncing the directory failed: %s", store->directory, gw_err_text(gw_err_from_errno(op->error)));
        store->names_failed = true;
    }
    sync_ended(store);
}

void segment_go_on_syncing(struct segment_store *store)
{
    if (!store->requests || store->syncs > 0)
        return;
    store->syncing = true;
    if (store->appends > 0)
        return;
    store->sync_err = GW_OK;
    unsigned before = store->syncs++;
    CHECK(before == 0);
    for (unsigned i = 0; i < store->count && !bug_enabled(BUG_SEGMENT_WITHOUT_SYNC); i++) {
        struct segment *segment = store->segments[i];
        if (!segment->unsynced || segment->sync_failed || segment->live == 0)
            continue;
        segment->unsynced = false;
        store->syncs++;
        segment_begin(segment, (struct disk_op){.kind = DISK_SYNC, .file = segment->handle, .done = sync_done});
    }
    /* Also when no name is new: then it is what makes the answer come later, never from inside the question. */
    store->operations++;
    store->directory_op = (struct disk_op){.kind = DISK_SYNC_DIR, .file = -1, .name = store->directory, .done = directory_done, .owner = store};
    store->disk->submit(store->disk, &store->directory_op);
}

void segment_sync(struct segment_store *store, bool wait, void (*done)(void *owner, void *context, enum gw_err err), void *context)
{
    struct sync_request *request = calloc(1, sizeof(*request));
    if (!request) {
        done(store->owner, context, GW_ERR_NOMEM);
        return;
    }
    request->done = done;
    request->context = context;
    *store->requests_end = request;
    store->requests_end = &request->next;
    segment_go_on_syncing(store);
    while (wait && store->requests)
        segment_wait_once(store);
}
