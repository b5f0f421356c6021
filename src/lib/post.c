/* What other threads have the loop call. */
#include "lib/uvloop.h"

#include <stdlib.h>

int gw_loop_post(gw_loop *loop, void (*call)(void *context), void *context)
{
    if (!loop || !call)
        return GW_E_INVALID;
    /* The loop is the parent's, and so is the descriptor that would wake it. */
    if (loop_check(loop) == GW_E_FORKED)
        return GW_E_FORKED;
    struct uvloop *u = uvloop_of(loop);
    struct post *post = malloc(sizeof(*post));
    if (!post)
        return GW_E_MEMORY;
    *post = (struct post){.call = call, .context = context};
    pthread_mutex_lock(&u->mutex);
    *u->posts_last = post;
    u->posts_last = &post->next;
    pthread_mutex_unlock(&u->mutex);
    wake_send(&u->wake);
    return GW_DONE;
}

static struct post *take_all(struct uvloop *u)
{
    pthread_mutex_lock(&u->mutex);
    struct post *first = u->posts;
    u->posts = NULL;
    u->posts_last = &u->posts;
    pthread_mutex_unlock(&u->mutex);
    return first;
}

void posts_turn(struct uvloop *u)
{
    /* Those that a call which left by longjmp has left over come first; what is posted meanwhile is for the next turn. */
    if (!u->posted)
        u->posted = take_all(u);
    for (struct post *post; (post = u->posted) && !loop_is_to_stop(&u->loop);) {
        struct post called = *post;
        u->posted = post->next;
        free(post);
        called.call(called.context);
    }
}

bool posts_wait(struct uvloop *u)
{
    pthread_mutex_lock(&u->mutex);
    bool any = u->posts;
    pthread_mutex_unlock(&u->mutex);
    return any;
}

void posts_free(struct uvloop *u)
{
    struct post *lists[] = {u->posted, take_all(u)};
    for (unsigned i = 0; i < 2; i++)
        for (struct post *post = lists[i], *next; post; post = next) {
            next = post->next;
            free(post);
        }
    u->posted = NULL;
}
