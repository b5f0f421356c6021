#include "protocol/gateway/idempotency.h"

#include "base/map.h"
#include "broker/worker.h"
#include "protocol/gateway/reception.h"
#include "protocol/token/token.h"

#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>

#define KEPT_MAX 10000u              /* keys of a hall … */
#define KEPT_BYTES (16u << 20)       /* … and bytes of their answers; the oldest go first */
#define KEPT_US 86400000000u
#define ANSWER_MAX (96u << 10)       /* a longer one is not kept */
#define PRINT_SIZE 32u               /* SHA-256 */
#define SCOPE_MAX (2u * UINT8_MAX + IDEMPOTENCY_KEY_SIZE + 3u + TOKEN_ID_SIZE)

enum verdict { VERDICT_GRANTED, VERDICT_SAME, VERDICT_BUSY, VERDICT_OTHER, VERDICT_FULL };

/* A key: its request is being done, or has been answered. */
struct kept {
    struct kept *newer, *older;
    uint64_t number, since_us;
    unsigned status;                 /* 0: it is being done */
    struct bytes answer;             /* its own memory */
    uint8_t print[PRINT_SIZE];
    struct bytes scope;              /* user, zero, vhost, zero, key; lies behind it */
};

struct idempotency {
    struct name_map by_scope;
    struct map by_number;
    struct kept *newest, *oldest;
    uint64_t next, bytes;
};

/* What halls say to one another. Behind it: the scope of a claim, the answer of one that is kept or told. */
struct claim_letter {
    uint64_t ask, number;
    uint8_t kind;                    /* enum letter_kind */
    uint8_t verdict;                 /* of LETTER_CLAIMED */
    uint16_t status;                 /* of an answer; of LETTER_KEEP 0: there is none, and the key is free again */
    uint8_t print[PRINT_SIZE];
};

static void send(struct gateway_hall *hall, unsigned to, const struct claim_letter *letter, struct bytes behind)
{
    uint8_t few[sizeof(*letter) + SCOPE_MAX], *room = behind.size <= SCOPE_MAX ? few : malloc(sizeof(*letter) + behind.size);
    if (!room) {   /* only an answer is so long: it is not kept, or not told */
        struct claim_letter less = *letter;
        less.status = 0;
        less.verdict = VERDICT_FULL;
        worker_send(hall->worker, to, bytes_of(&less, sizeof(less)));
        return;
    }
    memcpy(room, letter, sizeof(*letter));
    if (behind.size)
        memcpy(room + sizeof(*letter), behind.data, behind.size);
    worker_send(hall->worker, to, bytes_of(room, sizeof(*letter) + behind.size));
    if (room != few)
        free(room);
}

/* ---- the request's side ---------------------------------------------------------------------------------------------------- */

static void add(EVP_MD_CTX *context, struct bytes bytes)
{
    uint8_t size[8];
    store_le64(size, bytes.size);
    EVP_DigestUpdate(context, size, sizeof(size));
    if (bytes.size)
        EVP_DigestUpdate(context, bytes.data, bytes.size);
}

/* Headers that say something of what is to be done. */
static bool matters(struct bytes name)
{
    static const char *const names[] = {"content-type", "content-encoding"}, *const prefixes[] = {"ce-", "message-"};
    for (unsigned i = 0; i < 2; i++)
        if (http_name_is(name, names[i]) || (name.size > strlen(prefixes[i]) && http_name_is(bytes_of(name.data, strlen(prefixes[i])), prefixes[i])))
            return true;
    return false;
}

/* SHA-256 of what is asked. False: out of memory. */
static bool take_print(const struct task *task, uint8_t print[PRINT_SIZE])
{
    const struct http_request *request = task->call->request;
    EVP_MD_CTX *context = EVP_MD_CTX_new();
    bool good = context && EVP_DigestInit_ex(context, EVP_sha256(), NULL) == 1;
    if (good) {
        add(context, request->method);
        add(context, request->path);
        add(context, request->query);
        for (unsigned i = 0; i < request->field_count; i++)
            if (matters(request->fields[i].name)) {
                add(context, request->fields[i].name);
                add(context, request->fields[i].value);
            }
        add(context, bytes_of(task->body, task->size));
        good = EVP_DigestFinal_ex(context, print, NULL) == 1;
    }
    EVP_MD_CTX_free(context);
    return good;
}

/* Digits of that of the two. */
static bool digest(struct bytes scope, struct bytes more, char *text, size_t size)
{
    uint8_t made[PRINT_SIZE];
    EVP_MD_CTX *context = EVP_MD_CTX_new();
    bool good = context && EVP_DigestInit_ex(context, EVP_sha256(), NULL) == 1;
    if (good) {
        add(context, scope);
        add(context, more);
        good = EVP_DigestFinal_ex(context, made, NULL) == 1;
    }
    EVP_MD_CTX_free(context);
    for (size_t i = 0; good && 2 * i + 1 < size; i++)
        snprintf(text + 2 * i, 3, "%02x", made[i]);
    return good;
}

static struct bytes scope_of(const struct task *task, const char *key, uint8_t room[SCOPE_MAX])
{
    struct bytes user = task->member->client.user, vhost = member_vhost(task->member);
    size_t key_size = strlen(key);
    uint8_t *at = room;
    memcpy(at, user.data, user.size);
    at += user.size;
    *at++ = 0;
    memcpy(at, vhost.data, vhost.size);
    at += vhost.size;
    *at++ = 0;
    /* Who may do less than his user gets none of his user's answers, which may have secrets in them. No key has a zero in it. */
    struct bytes id = task->member->client.limits && task->member->token ? task->member->token->id : (struct bytes){0};
    if (id.size) {
        memcpy(at, id.data, id.size);
        at += id.size;
        *at++ = 0;
    }
    memcpy(at, key, key_size);
    return bytes_of(room, (size_t)(at - room) + key_size);
}

bool idempotency_begin(struct task *task)
{
    struct gateway_hall *hall = task->gateway->hall;
    char key[IDEMPOTENCY_KEY_SIZE];
    uint8_t room[SCOPE_MAX];
    struct claim_letter letter = {.kind = LETTER_CLAIM};
    if (task->claim || (task->resource->flags & RESOURCE_SECRET) || !bytes_equal(bytes_of_text(task->resource->method), bytes_of_text("POST")))
        return true;
    if (!task_idempotency_key(task, key))
        return false;
    if (!key[0] || task->member->client.user.size > UINT8_MAX)
        return true;
    struct bytes scope = scope_of(task, key, room);
    struct claim *claim = calloc(1, sizeof(*claim));
    if (!claim || !take_print(task, letter.print) || !digest(scope, bytes_of(letter.print, PRINT_SIZE), claim->mark, CLAIM_MARK_SIZE) ||
        !digest(scope, bytes_of("", 0), claim->id, CLAIM_ID_SIZE) || !reception_expect(task)) {
        free(claim);
        task_problem(task, 503, "The broker stops, or there is too little memory.");
        return false;
    }
    claim->place = (unsigned)(bytes_hash(scope, 3) % hall->workers);
    task->claim = claim;
    task->state = TASK_DOING;
    letter.ask = task->ask;
    send(hall, claim->place, &letter, scope);
    return false;
}

static void keep(struct task *task, unsigned status, struct bytes answer)
{
    struct claim *claim = task->claim;
    if (!claim)
        return;
    task->claim = NULL;
    if (claim->number)
        send(task->gateway->hall, claim->place, &(struct claim_letter){.kind = LETTER_KEEP, .number = claim->number, .status = (uint16_t)status}, answer);
    free(claim);
}

void idempotency_answered(struct task *task, unsigned status, struct bytes answer)
{
    bool good = status >= 200 && status < 300 && answer.size <= ANSWER_MAX;
    keep(task, good ? status : 0, good ? answer : (struct bytes){0});
}

void idempotency_leave(struct task *task) { keep(task, 0, (struct bytes){0}); }

static void claimed(struct gateway_hall *hall, unsigned from, const struct claim_letter *letter, struct bytes answer)
{
    struct task *task = reception_expected(hall, letter->ask);
    bool wanted = task && task->claim && task->state == TASK_DOING;
    if (!wanted && letter->verdict == VERDICT_GRANTED)
        send(hall, from, &(struct claim_letter){.kind = LETTER_KEEP, .number = letter->number}, (struct bytes){0});
    if (!wanted)
        return;
    char *text = NULL;
    switch (letter->verdict) {
    case VERDICT_GRANTED:
        task->claim->number = letter->number;
        client_time(&task->member->client, task->gateway->now_us);
        task->resource->run(task);
        break;
    case VERDICT_SAME:
        text = answer.size ? bytes_to_text(answer) : NULL;
        task_answer(task, letter->status, text);
        break;
    case VERDICT_BUSY:
        task_problem(task, 409, "A request with this Idempotency-Key is being done; ask again later.");
        break;
    case VERDICT_OTHER:
        task_problem(task, 422, "This Idempotency-Key was used for another request.");
        break;
    default:
        task_problem(task, 503, "Too many requests with an Idempotency-Key are being done.");
        break;
    }
    free(text);
}

/* ---- the side that keeps --------------------------------------------------------------------------------------------------- */

static struct bytes scope_of_kept(const void *value) { return ((const struct kept *)value)->scope; }

static struct idempotency *idempotency_of(struct gateway_hall *hall)
{
    if (!hall->idempotency && (hall->idempotency = calloc(1, sizeof(*hall->idempotency))))
        name_map_init(&hall->idempotency->by_scope, scope_of_kept, hall->seed);
    return hall->idempotency;
}

static void forget(struct idempotency *all, struct kept *kept)
{
    if (kept->newer)
        kept->newer->older = kept->older;
    else
        all->newest = kept->older;
    if (kept->older)
        kept->older->newer = kept->newer;
    else
        all->oldest = kept->newer;
    name_map_remove(&all->by_scope, kept->scope);
    map_remove(&all->by_number, kept->number);
    all->bytes -= kept->answer.size;
    free((void *)(uintptr_t)kept->answer.data);
    free(kept);
}

/* Makes room, and ends what has been there long enough. Those that are being done stay. */
static void clean(struct idempotency *all, uint64_t now_us, uint32_t most)
{
    for (struct kept *kept = all->oldest, *newer; kept; kept = newer) {
        newer = kept->newer;
        bool full = all->by_number.count > most || all->bytes > KEPT_BYTES;
        if (!full && now_us - kept->since_us < KEPT_US)
            return;
        if (kept->status)
            forget(all, kept);
    }
}

static struct kept *kept_new(struct idempotency *all, struct bytes scope, const uint8_t print[PRINT_SIZE], uint64_t now_us)
{
    clean(all, now_us, KEPT_MAX - 1);
    struct kept *kept = all->by_number.count < KEPT_MAX ? calloc(1, sizeof(*kept) + scope.size) : NULL;
    if (!kept)
        return NULL;
    kept->number = all->next + 1;
    kept->since_us = now_us;
    kept->scope = bytes_of(memcpy(kept + 1, scope.data, scope.size), scope.size);
    memcpy(kept->print, print, PRINT_SIZE);
    if (map_put(&all->by_number, kept->number, kept) != GW_OK || name_map_put(&all->by_scope, kept) != GW_OK) {
        map_remove(&all->by_number, kept->number);
        free(kept);
        return NULL;
    }
    all->next++;
    kept->older = all->newest;
    if (all->newest)
        all->newest->newer = kept;
    else
        all->oldest = kept;
    all->newest = kept;
    return kept;
}

static void judge(struct gateway_hall *hall, unsigned from, const struct claim_letter *letter, struct bytes scope)
{
    struct idempotency *all = idempotency_of(hall);
    uint64_t now_us = worker_now(hall->worker);
    struct kept *kept = all ? name_map_get(&all->by_scope, scope) : NULL;
    struct claim_letter back = {.kind = LETTER_CLAIMED, .ask = letter->ask, .verdict = VERDICT_FULL};
    if (kept && kept->status && now_us - kept->since_us >= KEPT_US) {
        forget(all, kept);
        kept = NULL;
    }
    if (kept) {
        back.verdict = memcmp(kept->print, letter->print, PRINT_SIZE) != 0 ? VERDICT_OTHER : kept->status ? VERDICT_SAME : VERDICT_BUSY;
        back.status = (uint16_t)kept->status;
    } else if (all && (kept = kept_new(all, scope, letter->print, now_us))) {
        back.verdict = VERDICT_GRANTED;
        back.number = kept->number;
    }
    send(hall, from, &back, back.verdict == VERDICT_SAME ? kept->answer : (struct bytes){0});
}

static void was_done(struct gateway_hall *hall, const struct claim_letter *letter, struct bytes answer)
{
    struct idempotency *all = hall->idempotency;
    struct kept *kept = all ? map_get(&all->by_number, letter->number) : NULL;
    uint8_t *copy = kept && letter->status ? malloc(answer.size + 1) : NULL;
    if (!kept)
        return;
    if (!copy) {
        forget(all, kept);
        return;
    }
    if (answer.size)
        memcpy(copy, answer.data, answer.size);
    kept->answer = bytes_of(copy, answer.size);
    kept->status = letter->status;
    all->bytes += answer.size;
    clean(all, worker_now(hall->worker), KEPT_MAX);
}

void idempotency_letter(struct gateway_hall *hall, unsigned from, struct bytes bytes)
{
    struct claim_letter letter;
    memcpy(&letter, bytes.data, sizeof(letter));
    struct bytes behind = bytes_of(bytes.data + sizeof(letter), bytes.size - sizeof(letter));
    if (letter.kind == LETTER_CLAIM)
        judge(hall, from, &letter, behind);
    else if (letter.kind == LETTER_CLAIMED)
        claimed(hall, from, &letter, behind);
    else
        was_done(hall, &letter, behind);
}

void idempotency_free(struct gateway_hall *hall)
{
    struct idempotency *all = hall->idempotency;
    if (!all)
        return;
    while (all->newest)
        forget(all, all->newest);
    name_map_deinit(&all->by_scope);
    map_deinit(&all->by_number);
    free(all);
    hall->idempotency = NULL;
}
