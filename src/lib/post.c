/* What other threads have the loop call. */
#include "lib/loop.h"

#include <stdlib.h>

int gw_loop_post(gw_loop *loop, void (*call)(void *context), void *context)
{
    if (!loop || !call)
        return GW_E_INVALID;
    struct post *post = malloc(sizeof(*post));
    if (!post)
        return GW_E_MEMORY;
    *post = (struct post){.call = call, .context = context};
    pthread_mutex_lock(&loop->mutex);
    *loop->posts_last = post;
    loop->posts_last = &post->next;
    pthread_mutex_unlock(&loop->mutex);
    wake_send(&loop->wake);
    return GW_DONE;
}

static struct post *take_all(struct gw_loop *loop)
{
    pthread_mutex_lock(&loop->mutex);
    struct post *first = loop->posts;
    loop->posts = NULL;
    loop->posts_last = &loop->posts;
    pthread_mutex_unlock(&loop->mutex);
    return first;
}

void posts_turn(struct gw_loop *loop)
{
    /* Those that a call which left by longjmp has left over come first; what is posted meanwhile is for the next turn. */
    if (!loop->posted)
        loop->posted = take_all(loop);
    for (struct post *post; (post = loop->posted);) {
        struct post called = *post;
        loop->posted = post->next;
        free(post);
        called.call(called.context);
    }
}

bool posts_wait(struct gw_loop *loop)
{
    pthread_mutex_lock(&loop->mutex);
    bool any = loop->posts;
    pthread_mutex_unlock(&loop->mutex);
    return any;
}

void posts_free(struct gw_loop *loop)
{
    struct post *lists[] = {loop->posted, take_all(loop)};
    for (unsigned i = 0; i < 2; i++)
        for (struct post *post = lists[i], *next; post; post = next) {
            next = post->next;
            free(post);
        }
    loop->posted = NULL;
}
