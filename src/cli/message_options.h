/* A message's properties and headers as options of the command line. */
#ifndef CLI_MESSAGE_OPTIONS_H
#define CLI_MESSAGE_OPTIONS_H

#include "base/bytes.h"
#include "cli/option.h"

#define MESSAGE_PROPERTIES_MAX 65536u   /* bytes, encoded */

struct message_settings {
    const char *content_type, *content_encoding, *correlation_id, *reply_to, *expiration, *message_id, *type, *user_id, *app_id;
    uint64_t priority;                    /* MESSAGE_NO_PRIORITY: not given */
    uint64_t delivery_mode, timestamp;    /* 0: not given */
    bool transient;
    struct option_list headers;
};

#define MESSAGE_NO_PRIORITY 256u

/* The rows of an option table that fill `member`, a struct message_settings inside struct `owner`. */
#define MESSAGE_OPTIONS(owner, member) \
    {'H', OPTION_LIST, "header", "NAME=VALUE", \
     "a header; NAME:int=, :bool=, :float=, :time= (seconds) and :null= give it another type than text; may be repeated", \
     offsetof(struct owner, member.headers), 0, 0}, \
    {0, OPTION_TEXT, "content-type", "TYPE", "property, e.g. application/json", offsetof(struct owner, member.content_type), 0, 0}, \
    {0, OPTION_TEXT, "content-encoding", "NAME", "property, e.g. gzip", offsetof(struct owner, member.content_encoding), 0, 0}, \
    {0, OPTION_NUMBER, "delivery-mode", "MODE", "1 transient, 2 persistent (the default)", offsetof(struct owner, member.delivery_mode), 1, 2}, \
    {0, OPTION_FLAG, "transient", NULL, "the same as --delivery-mode 1: a restart of the broker loses the message", \
     offsetof(struct owner, member.transient), 0, 0}, \
    {0, OPTION_NUMBER, "priority", "N", "property, 0 to 255", offsetof(struct owner, member.priority), 0, 255}, \
    {0, OPTION_TEXT, "correlation-id", "ID", "property", offsetof(struct owner, member.correlation_id), 0, 0}, \
    {0, OPTION_TEXT, "reply-to", "QUEUE", "property", offsetof(struct owner, member.reply_to), 0, 0}, \
    {0, OPTION_TEXT, "expiration", "MS", "milliseconds after which the message may be dropped from a queue", \
     offsetof(struct owner, member.expiration), 0, 0}, \
    {0, OPTION_TEXT, "message-id", "ID", "property", offsetof(struct owner, member.message_id), 0, 0}, \
    {0, OPTION_NUMBER, "timestamp", "SECONDS", "property, since 1970", offsetof(struct owner, member.timestamp), 1, 0}, \
    {0, OPTION_TEXT, "type", "NAME", "property", offsetof(struct owner, member.type), 0, 0}, \
    {0, OPTION_TEXT, "user-id", "USER", "property; the broker checks that it is who is logged in", offsetof(struct owner, member.user_id), 0, 0}, \
    {0, OPTION_TEXT, "app-id", "ID", "property", offsetof(struct owner, member.app_id), 0, 0}

/* Encodes them into `room` of MESSAGE_PROPERTIES_MAX bytes, which *properties then points into. Errors: GW_ERR_INVALID, and
 * then `complaint` names the option. */
enum gw_err message_options_encode(const struct message_settings *settings, uint8_t *room, struct bytes *properties,
                                   char *complaint, size_t complaint_size);

#endif
