/* An event as a webhook: what a message is posted as, in CloudEvents' binary mode (HTTP protocol binding 1.0.2, section 3.1: its attributes are headers, the body is its own) or in
 * structured mode (section 3.2: the body is the event in JSON), signed as Standard Webhooks has it. */
#ifndef BUS_HOOK_REQUEST_H
#define BUS_HOOK_REQUEST_H

#include "bus/subscription.h"
#include "store/message.h"

#define HOOK_HEADERS_MAX 96u
#define HOOK_ID_MAX 256u

struct hook_request {
    const char *headers[HOOK_HEADERS_MAX];
    unsigned count;
    char id[HOOK_ID_MAX];            /* of the event, with a zero behind it */
    struct bytes body;               /* the message's, or `event` */
    char *room, *event;              /* what the headers lie in; the event in JSON, which may be taken; NULL: the mode is binary */
};

/* `attempt`: from 1. What no CloudEvent says of itself is made up of the message's properties, and of `otherwise` where there is no id. False: out of memory. */
bool hook_request_init(struct hook_request *request, const struct message *message, const struct subscription *subscription, const char *otherwise, uint64_t attempt,
                       uint64_t now_s);
void hook_request_deinit(struct hook_request *request);

#endif
