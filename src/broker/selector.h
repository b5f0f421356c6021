/* A selector: which messages somebody wants, by their headers and properties. Text in the dialect of JMS selectors (a subset of SQL-92's conditional expressions, Jakarta
 * Messaging 3.1 section 3.8.1), which RocketMQ and others speak too, or a table of headers that must all be equal.
 *
 *   type = 'order' AND (region IN ('eu', 'uk') OR weight BETWEEN 10 AND 20) AND note IS NOT NULL
 *
 *   names       a header's; in double quotes or backquotes where it is no identifier. properties.NAME is a property of the message: message_id, correlation_id, content_type,
 *               content_encoding, reply_to, expiration, type, user_id, app_id, timestamp, priority, delivery_mode; and exchange, routing_key, body_size
 *   literals    'text' (a quote in it is doubled), 1, -2.5, 1e3, TRUE, FALSE
 *   operators   = <> != < <= > >=, + - * /, AND OR NOT, [NOT] BETWEEN … AND …, [NOT] IN (…), [NOT] LIKE 'pattern' [ESCAPE 'c'], IS [NOT] NULL
 *
 * What is not there, or is compared with something of another kind, is unknown, and a message is selected only by what is true (three-valued logic). */
#ifndef BROKER_SELECTOR_H
#define BROKER_SELECTOR_H

#include "base/bytes.h"
#include "base/err.h"
#include "store/message.h"

#define SELECTOR_SIZE_MAX 4096u     /* bytes of text, or of a table */
#define SELECTOR_DEPTH_MAX 32u      /* parentheses and operators in each other */
#define SELECTOR_SLOW_MAX 256u      /* bytes of all patterns' runs behind a % that have a _ or an escape, see like.h */
#define SELECTOR_TERMS_MAX 8u

struct amqp_field;
struct selector;

/* GW_ERR_INVALID: `why` says what is wrong and where; GW_ERR_LIMIT the same of what is too long or too deep; GW_ERR_NOMEM. Free with selector_free. */
enum gw_err selector_compile(struct bytes text, struct selector **selector, char *why, size_t room);

/* All fields of a valid table (its payload) must be headers of the message, and equal: texts, numbers, booleans. */
enum gw_err selector_from_table(struct bytes table, struct selector **selector, char *why, size_t room);
/* Either of them, as a field's type says: a text or a table. */
enum gw_err selector_of_field(const struct amqp_field *field, struct selector **selector, char *why, size_t room);
void selector_free(struct selector *selector);

bool selector_matches(const struct selector *selector, const struct message *message);
/* How much work that may be, at worst; 1 for what is usual: long patterns and names are looked for in long texts and tables. */
unsigned selector_cost(const struct selector *selector, const struct message *message);

/* What every message that it selects must have: hashes of headers with the texts they are equal to. Answers how many there are (up to SELECTOR_TERMS_MAX); 0: nothing can be said. */
unsigned selector_terms(const struct selector *selector, uint64_t hashes[SELECTOR_TERMS_MAX]);
/* The hash of a header that is a text, as in selector_terms. */
uint64_t selector_term(struct bytes name, struct bytes value);

#endif
