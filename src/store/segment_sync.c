/* Making everything durable that the segment store has written: writes run out, every file that was written to is synced, then the directory. */
#include "store/segment_state.h"

#include "base/bugs.h"

#include <stdlib.h>

/* Lets the appends and the requests that came during a sync have their turn. */
static void begin_next_round(struct segment_store *store)
{
    *store->held_end = store->later;
    if (store->later)
        store->held_end = store->later_end;
    store->later = NULL;
    store->later_end = &store->later;
    *store->requests_end = store->next_requests;
    if (store->next_requests)
        store->requests_end = store->next_requests_end;
    store->next_requests = NULL;
    store->next_requests_end = &store->next_requests;
    segment_start_held(store);
    segment_go_on_syncing(store);
}

static void finish_sync(struct segment_store *store)
{
    struct sync_request *request = store->requests;
    store->requests = NULL;
    store->requests_end = &store->requests;
    enum gw_err err = store->names_failed ? GW_ERR_FAILED : GW_OK;
    for (unsigned i = 0; i < store->count; i++)
        if (store->segments[i]->sync_failed && store->segments[i]->live > 0)
            err = GW_ERR_FAILED;
    while (request) {
        struct sync_request *next = request->next;
        request->done(store->owner, request->context, err);
        free(request);
        request = next;
    }
    begin_next_round(store);
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
    if (!store->requests || store->syncs > 0 || store->appends > 0 || store->held)
        return;
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
    /* Appends that wait for the sync at hand are not covered by it. */
    struct sync_request ***end = store->later || store->next_requests ? &store->next_requests_end : &store->requests_end;
    **end = request;
    *end = &request->next;
    segment_go_on_syncing(store);
    while (wait && (store->requests || store->next_requests))
        segment_wait_once(store);
}
