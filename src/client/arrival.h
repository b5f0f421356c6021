/* A message that arrives frame by frame: its method, its properties, its body. */
#ifndef CLIENT_ARRIVAL_H
#define CLIENT_ARRIVAL_H

#include "client/message.h"
#include "client/remote_buffer.h"
#include "protocol/amqp/methods.h"

/* A zeroed one waits for nothing. */
struct message_arrival {
    uint32_t method;             /* enum amqp_method_id; 0: none is arriving */
    bool header_seen;
    struct remote_buffer held;   /* the method's payload, the properties, then the body unless all of it came in one frame */
    size_t method_size, properties_size;
    uint64_t body_size;
    struct bytes whole;          /* the body that came in one frame: the caller's bytes */
};

enum arrival_answer {
    ARRIVAL_MORE,
    ARRIVAL_COMPLETE,        /* ask arrival_message, then arrival_end */
    ARRIVAL_OUT_OF_PLACE,    /* the frame makes no sense here; ask arrival_complaint */
    ARRIVAL_TOO_LARGE,       /* more than `body_max`: body_size says how much */
    ARRIVAL_NO_MEMORY,
};

void arrival_deinit(struct message_arrival *arrival);

/* A method with content, whose payload was decoded before. */
enum arrival_answer arrival_begin(struct message_arrival *arrival, struct bytes payload);

enum arrival_answer arrival_header(struct message_arrival *arrival, struct bytes payload, uint64_t body_max);

/* The payload is looked at by arrival_message again, if it completed the message. */
enum arrival_answer arrival_body(struct message_arrival *arrival, struct bytes payload);

/* The complete message; it is valid until the next of these functions, and its body as long as the last payload. */
void arrival_message(const struct message_arrival *arrival, struct remote_message *message);

/* Nothing is arriving any more; what arrival_message said stays valid. */
static inline void arrival_end(struct message_arrival *arrival)
{
    arrival->method = 0;
}

/* What a broker did that sent a header (or a body) where it was out of place. */
const char *arrival_complaint(const struct message_arrival *arrival, bool is_body);

#endif
