#include "protocol/gateway/upload.h"

#include "protocol/gateway/work.h"

#include <stdlib.h>

struct upload {
    struct publish publish;
    uint64_t size, came;             /* bytes of the body */
    uint8_t *at;                     /* where the next ones go; NULL: nobody wants them */
    bool begun;                      /* the broker has been asked */
    bool owes_end;                   /* … and wants to hear how it ends */
};

bool upload_is_due(struct task *task, size_t piece)
{
    struct member *member = task->member;
    const struct http_request *request = task->call->request;
    struct bytes key;
    uint64_t size = request->content_length;
    if (task->gathers || !member || !(task->resource->flags & RESOURCE_UPLOADS) || size == HTTP_UNKNOWN || size < task->gateway->hall->config->upload_min ||
        task->size + piece >= size || !member->is_open || member->is_gone)
        return false;
    /* What may be a repetition is looked at before it is published. */
    if (http_field_find(request, "idempotency-key", &key) || (task->resource->run == events_publish && !events_are_opaque(request))) {
        task->gathers = true;
        return false;
    }
    return member->blocked || client_may_publish(&member->client);
}

void upload_begin(struct task *task)
{
    struct member *member = task->member;
    if (member->blocked) {
        task_problem(task, 503, "The broker is %s and takes no messages now.", member->blocked);
        return;
    }
    struct upload *upload = task->upload = calloc(1, sizeof(*upload));
    if (!upload) {
        task_problem(task, 503, "There is too little memory.");
        return;
    }
    upload->size = task->call->request->content_length;
    client_time(&member->client, member->gateway->now_us);
    task->resource->run(task);
    if (task->state == TASK_ANSWERED) {
        upload_leave(task);
        return;
    }
    if (!upload->begun) {   /* the bus is to be declared first, which takes longer */
        upload_leave(task);
        task->gathers = true;
        return;
    }
    struct bytes came = bytes_of(task->body, task->size);
    if (came.size)
        upload_take(task, came);
    task_forget_body(task);
}

void upload_keep(struct task *task, const struct publish *publish, enum publish_result result)
{
    struct upload *upload = task->upload;
    struct client *client = &task->member->client;
    upload->publish = *publish;
    bool good = result == PUBLISH_ROUTED || (result == PUBLISH_UNROUTABLE && !publish->mandatory);
    if (!good) {
        if (result == PUBLISH_UNROUTABLE && publish->chunk)
            client_publish_abort(client, &upload->publish);
        return;
    }
    upload->begun = true;
    upload->owes_end = result == PUBLISH_ROUTED || publish->chunk;
    upload->at = upload->owes_end ? publish->body : NULL;
}

void upload_take(struct task *task, struct bytes piece)
{
    struct upload *upload = task->upload;
    struct gateway_hall *hall = task->gateway->hall;
    if (piece.size > upload->size - upload->came) {
        task_problem(task, 400, "The body is longer than its content-length says.");
        return;
    }
    if (hall->gathered + piece.size > hall->config->gather_limit) {
        task_problem(task, 503, "Too many bodies are coming at once.");
        upload_leave(task);
        return;
    }
    /* Pages of it that nothing was written to are no memory yet. */
    hall->gathered += piece.size;
    upload->came += piece.size;
    if (upload->at) {
        memcpy(upload->at, piece.data, piece.size);
        upload->at += piece.size;
    }
}

void upload_end(struct task *task)
{
    struct upload *upload = task->upload;
    if (upload->came != upload->size) {
        task_problem(task, 400, "The body is shorter than its content-length says.");
        return;
    }
    task->state = TASK_DOING;
    if (upload->owes_end)
        client_publish_end(&task->member->client, &upload->publish);
    upload->owes_end = false;
    upload_leave(task);
    task->published = true;
    if (!task->unconfirmed)
        task->confirmed(task);
}

void upload_leave(struct task *task)
{
    struct upload *upload = task->upload;
    if (!upload)
        return;
    task->upload = NULL;
    task->gateway->hall->gathered -= upload->came;
    if (upload->owes_end)
        client_publish_abort(&task->member->client, &upload->publish);
    free(upload);
}
