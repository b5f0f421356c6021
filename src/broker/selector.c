#include "broker/selector.h"

#include "base/map.h"
#include "broker/like.h"
#include "protocol/amqp/properties.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#define WORK_OF_ONE 65536u   /* bytes of a message's properties times bytes of a selector */

/* ---- the tree -------------------------------------------------------------------------------------------------------- */

enum node_kind {
    NODE_OR, NODE_AND, NODE_NOT, NODE_EQUAL, NODE_UNEQUAL, NODE_LESS, NODE_LESS_EQUAL, NODE_GREATER, NODE_GREATER_EQUAL, NODE_ADD, NODE_SUBTRACT, NODE_MULTIPLY,
    NODE_DIVIDE, NODE_NEGATE, NODE_BETWEEN, NODE_IN, NODE_LIKE, NODE_IS_NULL, NODE_HEADER, NODE_PROPERTY, NODE_TEXT, NODE_WHOLE, NODE_REAL, NODE_BOOL,
};

/* Operands lie behind each other by `first` and `next`; 0: none. */
struct node {
    uint8_t kind;
    uint8_t escape;                  /* LIKE; 0: none */
    bool inverted;                   /* NOT IN, NOT LIKE, NOT BETWEEN, IS NOT NULL */
    uint16_t first, next;
    union {
        struct bytes text;           /* a header's name, a text, a pattern: in the selector's own memory */
        int64_t whole;
        double real;
        unsigned property;
    };
};

struct selector {
    uint16_t root, count, room;
    struct node *nodes;              /* from 1 */
    uint8_t *own;                    /* the text, whose quotes are undone in place; or the table */
    size_t size;                     /* of that, bytes */
};

/* ---- values ---------------------------------------------------------------------------------------------------------- */

enum value_kind { VALUE_UNKNOWN, VALUE_BOOL, VALUE_WHOLE, VALUE_REAL, VALUE_TEXT };

struct value {
    enum value_kind kind;
    union {
        int64_t whole;               /* also of a BOOL */
        double real;
        struct bytes text;
    };
};

static const struct value unknown;

static struct value truth(bool is) { return (struct value){.kind = VALUE_BOOL, .whole = is}; }
static struct value whole_of(int64_t number) { return (struct value){.kind = VALUE_WHOLE, .whole = number}; }
static struct value real_of(double number) { return (struct value){.kind = VALUE_REAL, .real = number}; }
static struct value text_of(struct bytes text) { return (struct value){.kind = VALUE_TEXT, .text = text}; }
static bool is_number(const struct value *value) { return value->kind == VALUE_WHOLE || value->kind == VALUE_REAL; }
static double as_real(const struct value *value) { return value->kind == VALUE_WHOLE ? (double)value->whole : value->real; }

static struct value of_field(const struct amqp_field *field)
{
    switch (field->type) {
    case 't': return truth(field->integer);
    case 'S': return text_of(field->bytes);
    case 'f':
    case 'd': return real_of(field->real);
    case 'T': return whole_of(field->integer);
    case 'D': return real_of((double)field->integer / pow(10, field->scale));
    default: return amqp_field_is_integer(field) ? whole_of(field->integer) : unknown;
    }
}

/* ---- reading the text -------------------------------------------------------------------------------------------------- */

enum token { TOKEN_END, TOKEN_NAME, TOKEN_QUOTED, TOKEN_TEXT, TOKEN_WHOLE, TOKEN_REAL, TOKEN_SIGN, TOKEN_BAD };

struct parser {
    struct selector *selector;
    uint8_t *at, *begin, *end;
    enum token token;
    struct bytes text;               /* of NAME, QUOTED and TEXT; of a SIGN its characters */
    int64_t whole;
    double real;
    const uint8_t *token_at;
    unsigned depth;
    size_t slow;                     /* bytes of patterns that take long to find */
    enum gw_err err;
    char *why;
    size_t room;
};

__attribute__((format(printf, 3, 4)))
static uint16_t fail(struct parser *parser, enum gw_err err, const char *format, ...)
{
    if (parser->err)
        return 0;
    parser->err = err;
    int used = snprintf(parser->why, parser->room, "at character %zu: ", (size_t)(parser->token_at - parser->begin) + 1);
    va_list arguments;
    va_start(arguments, format);
    if (used > 0 && (size_t)used < parser->room)
        vsnprintf(parser->why + used, parser->room - (size_t)used, format, arguments);
    va_end(arguments);
    return 0;
}

static bool is_letter(uint8_t c) { return ((c | 32) >= 'a' && (c | 32) <= 'z') || c >= 128 || c == '_' || c == '$'; }
static bool is_digit(uint8_t c) { return c >= '0' && c <= '9'; }

/* 'it''s', "a name": undone in place. */
static enum token quoted(struct parser *parser, uint8_t quote, enum token token)
{
    uint8_t *from = parser->at + 1, *to = parser->at + 1, *begin = to;
    for (; from < parser->end; from++) {
        if (*from == quote && (from + 1 == parser->end || from[1] != quote)) {
            parser->text = bytes_of(begin, (size_t)(to - begin));
            parser->at = from + 1;
            return token;
        }
        from += *from == quote;
        *to++ = *from;
    }
    fail(parser, GW_ERR_INVALID, "the %s has no end", token == TOKEN_TEXT ? "text" : "name");
    return TOKEN_BAD;
}

static enum token number(struct parser *parser)
{
    uint8_t *at = parser->at;
    bool real = false;
    int64_t whole = 0;
    bool fits = true;
    for (; at < parser->end && is_digit(*at); at++) {
        fits = fits && !__builtin_mul_overflow(whole, 10, &whole) && !__builtin_add_overflow(whole, *at - '0', &whole);
    }
    if (at < parser->end && *at == '.') {
        real = true;
        for (at++; at < parser->end && is_digit(*at); at++)
            ;
    }
    if (at < parser->end && (*at | 32) == 'e') {
        uint8_t *exponent = at + 1;
        exponent += exponent < parser->end && (*exponent == '+' || *exponent == '-');
        if (exponent < parser->end && is_digit(*exponent)) {
            real = true;
            for (at = exponent; at < parser->end && is_digit(*at); at++)
                ;
        }
    }
    char copy[64];
    size_t size = (size_t)(at - parser->at);
    if (size >= sizeof(copy) || (at < parser->end && is_letter(*at)) || (!real && !fits)) {
        fail(parser, GW_ERR_INVALID, "this is no number");
        return TOKEN_BAD;
    }
    memcpy(copy, parser->at, size);
    copy[size] = 0;
    parser->whole = whole;
    parser->real = strtod(copy, NULL);
    parser->at = at;
    return real ? TOKEN_REAL : TOKEN_WHOLE;
}

static enum token next_token(struct parser *parser)
{
    while (parser->at < parser->end && (*parser->at == ' ' || (*parser->at >= '\t' && *parser->at <= '\r')))
        parser->at++;
    parser->token_at = parser->at;
    if (parser->at == parser->end)
        return TOKEN_END;
    uint8_t c = *parser->at, *begin = parser->at, second = parser->at + 1 < parser->end ? parser->at[1] : 0;
    if (c == '\'')
        return quoted(parser, c, TOKEN_TEXT);
    if (c == '"' || c == '`')
        return quoted(parser, c, TOKEN_QUOTED);
    if (is_digit(c) || (c == '.' && is_digit(second)))
        return number(parser);
    if (is_letter(c)) {
        while (parser->at < parser->end && (is_letter(*parser->at) || is_digit(*parser->at) || *parser->at == '.' || *parser->at == '-'))
            parser->at++;
        while (parser->at[-1] == '-' || parser->at[-1] == '.')
            parser->at--;
        parser->text = bytes_of(begin, (size_t)(parser->at - begin));
        return TOKEN_NAME;
    }
    bool two = (c == '<' && (second == '>' || second == '=')) || (c == '>' && second == '=') || (c == '!' && second == '=');
    if (!two && (!c || !strchr("=<>()+-*/,", c))) {
        fail(parser, GW_ERR_INVALID, "this character means nothing here");
        return TOKEN_BAD;
    }
    parser->at += two ? 2 : 1;
    parser->text = bytes_of(begin, two ? 2 : 1);
    return TOKEN_SIGN;
}

static void advance(struct parser *parser) { parser->token = parser->err ? TOKEN_BAD : next_token(parser); }

static bool is_sign(const struct parser *parser, const char *sign)
{
    return parser->token == TOKEN_SIGN && bytes_equal(parser->text, bytes_of_text(sign));
}

/* A word of the language, in either case. */
static bool is_word(const struct parser *parser, const char *word)
{
    size_t size = strlen(word);
    if (parser->token != TOKEN_NAME || parser->text.size != size)
        return false;
    for (size_t i = 0; i < size; i++)
        if ((parser->text.data[i] & 0xDF) != (uint8_t)word[i])
            return false;
    return true;
}

static bool take_sign(struct parser *parser, const char *sign)
{
    bool is = is_sign(parser, sign);
    if (is)
        advance(parser);
    return is;
}

static bool take_word(struct parser *parser, const char *word)
{
    bool is = is_word(parser, word);
    if (is)
        advance(parser);
    return is;
}

/* ---- parsing ----------------------------------------------------------------------------------------------------------- */

static uint16_t make(struct parser *parser, struct node node)
{
    struct selector *selector = parser->selector;
    if (parser->err)
        return 0;
    if (selector->count + 1 >= selector->room) {
        uint16_t room = selector->room ? selector->room * 2 : 16;
        struct node *grown = room > SELECTOR_SIZE_MAX * 2 ? NULL : realloc(selector->nodes, room * sizeof(*grown));
        if (!grown)
            return fail(parser, GW_ERR_NOMEM, "out of memory");
        selector->nodes = grown;
        selector->room = room;
    }
    selector->nodes[++selector->count] = node;
    return selector->count;
}

/* An operator with its operands; those that are missing have failed before. */
static uint16_t make_of(struct parser *parser, enum node_kind kind, uint16_t a, uint16_t b, uint16_t c)
{
    if (parser->err)
        return 0;
    if (b)
        parser->selector->nodes[a].next = b;
    if (c)
        parser->selector->nodes[b].next = c;
    return make(parser, (struct node){.kind = (uint8_t)kind, .first = a});
}

static uint16_t parse_or(struct parser *parser);
static uint16_t parse_sum(struct parser *parser);

static bool deeper(struct parser *parser)
{
    if (++parser->depth > SELECTOR_DEPTH_MAX)
        fail(parser, GW_ERR_LIMIT, "this is nested more than %u deep", SELECTOR_DEPTH_MAX);
    return !parser->err;
}

static const char *const property_names[] = {
    "message_id", "correlation_id", "content_type", "content_encoding", "reply_to", "expiration", "type", "user_id", "app_id", "timestamp", "priority", "delivery_mode",
    "exchange", "routing_key", "body_size",
};
enum property {
    PROPERTY_MESSAGE_ID, PROPERTY_CORRELATION_ID, PROPERTY_CONTENT_TYPE, PROPERTY_CONTENT_ENCODING, PROPERTY_REPLY_TO, PROPERTY_EXPIRATION, PROPERTY_TYPE, PROPERTY_USER_ID,
    PROPERTY_APP_ID, PROPERTY_TIMESTAMP, PROPERTY_PRIORITY, PROPERTY_DELIVERY_MODE, PROPERTY_EXCHANGE, PROPERTY_ROUTING_KEY, PROPERTY_BODY_SIZE, PROPERTY_COUNT,
};

static uint16_t parse_name(struct parser *parser)
{
    static const char prefix[] = "properties.";
    struct bytes name = parser->text;
    size_t size = sizeof(prefix) - 1;
    bool property = parser->token == TOKEN_NAME && name.size > size && memcmp(name.data, prefix, size) == 0;
    uint16_t made = 0;
    for (unsigned i = 0; property && !made && i < PROPERTY_COUNT; i++)
        if (bytes_equal(bytes_of(name.data + size, name.size - size), bytes_of_text(property_names[i])))
            made = make(parser, (struct node){.kind = NODE_PROPERTY, .property = i});
    if (property && !made)
        return fail(parser, GW_ERR_INVALID, "messages have no such property");
    if (!made)
        made = make(parser, (struct node){.kind = NODE_HEADER, .text = name});
    advance(parser);
    return made;
}

static uint16_t parse_primary(struct parser *parser)
{
    static const char *const words[] = {"AND", "OR", "NOT", "BETWEEN", "IN", "LIKE", "IS", "NULL", "ESCAPE"};
    uint16_t made;
    switch (parser->token) {
    case TOKEN_TEXT: made = make(parser, (struct node){.kind = NODE_TEXT, .text = parser->text}); break;
    case TOKEN_WHOLE: made = make(parser, (struct node){.kind = NODE_WHOLE, .whole = parser->whole}); break;
    case TOKEN_REAL: made = make(parser, (struct node){.kind = NODE_REAL, .real = parser->real}); break;
    case TOKEN_QUOTED: return parse_name(parser);
    case TOKEN_NAME:
        if (is_word(parser, "TRUE") || is_word(parser, "FALSE")) {
            made = make(parser, (struct node){.kind = NODE_BOOL, .whole = is_word(parser, "TRUE")});
            break;
        }
        for (unsigned i = 0; i < sizeof(words) / sizeof(words[0]); i++)
            if (is_word(parser, words[i]))
                return fail(parser, GW_ERR_INVALID, "a name or a value is missing before %s", words[i]);
        return parse_name(parser);
    default:
        if (!take_sign(parser, "("))
            return fail(parser, GW_ERR_INVALID, parser->token == TOKEN_END ? "something is missing at the end" : "a name or a value is missing");
        made = deeper(parser) ? parse_or(parser) : 0;
        parser->depth--;
        if (!take_sign(parser, ")"))
            return fail(parser, GW_ERR_INVALID, "a closing parenthesis is missing");
        return made;
    }
    advance(parser);
    return made;
}

static uint16_t parse_unary(struct parser *parser)
{
    while (take_sign(parser, "+"))
        ;
    if (!take_sign(parser, "-"))
        return parse_primary(parser);
    uint16_t of = deeper(parser) ? parse_unary(parser) : 0;
    parser->depth--;
    return make_of(parser, NODE_NEGATE, of, 0, 0);
}

/* Operands with either of two signs between them, from the left; the second sign's kind follows the first one's. */
static uint16_t parse_chain(struct parser *parser, const char *const signs[2], enum node_kind first, uint16_t (*operand)(struct parser *parser))
{
    uint16_t left = operand(parser);
    unsigned before = parser->depth;
    while (!parser->err && (is_sign(parser, signs[0]) || is_sign(parser, signs[1])) && deeper(parser)) {
        enum node_kind kind = is_sign(parser, signs[0]) ? first : first + 1;
        advance(parser);
        left = make_of(parser, kind, left, operand(parser), 0);
    }
    parser->depth = before;
    return left;
}

static uint16_t parse_product(struct parser *parser) { return parse_chain(parser, (const char *const[]){"*", "/"}, NODE_MULTIPLY, parse_unary); }
static uint16_t parse_sum(struct parser *parser) { return parse_chain(parser, (const char *const[]){"+", "-"}, NODE_ADD, parse_product); }

static uint16_t parse_in(struct parser *parser, uint16_t left)
{
    uint16_t last = left;
    if (!take_sign(parser, "("))
        return fail(parser, GW_ERR_INVALID, "IN is followed by values in parentheses");
    do {
        bool negative = take_sign(parser, "-");
        bool known = parser->token == TOKEN_TEXT || parser->token == TOKEN_WHOLE || parser->token == TOKEN_REAL;
        if (!known || (negative && parser->token == TOKEN_TEXT))
            return fail(parser, GW_ERR_INVALID, "IN compares with texts and numbers");
        if (negative) {
            parser->whole = -parser->whole;
            parser->real = -parser->real;
        }
        uint16_t value = parse_primary(parser);
        if (parser->err)
            return 0;
        parser->selector->nodes[last].next = value;
        last = value;
    } while (take_sign(parser, ","));
    if (!take_sign(parser, ")"))
        return fail(parser, GW_ERR_INVALID, "a closing parenthesis is missing");
    return make_of(parser, NODE_IN, left, 0, 0);
}

static uint16_t parse_like(struct parser *parser, uint16_t left)
{
    struct node like = {.kind = NODE_LIKE, .first = left, .text = parser->text};
    if (parser->token != TOKEN_TEXT)
        return fail(parser, GW_ERR_INVALID, "LIKE is followed by a text");
    advance(parser);
    if (take_word(parser, "ESCAPE")) {
        if (parser->token != TOKEN_TEXT || parser->text.size != 1)
            return fail(parser, GW_ERR_INVALID, "ESCAPE is followed by one character");
        like.escape = parser->text.data[0];
        advance(parser);
    }
    parser->slow += like_slow_bytes(like.text, like.escape);
    if (parser->slow > SELECTOR_SLOW_MAX)
        return fail(parser, GW_ERR_LIMIT, "what follows a %% in patterns has more than %u bytes with _ or escapes in them", SELECTOR_SLOW_MAX);
    return make(parser, like);
}

static uint16_t parse_comparison(struct parser *parser)
{
    static const struct { const char *sign; enum node_kind kind; } signs[] = {
        {"=", NODE_EQUAL}, {"<>", NODE_UNEQUAL}, {"!=", NODE_UNEQUAL}, {"<=", NODE_LESS_EQUAL}, {">=", NODE_GREATER_EQUAL}, {"<", NODE_LESS}, {">", NODE_GREATER},
    };
    uint16_t left = parse_sum(parser), made = 0;
    for (unsigned i = 0; i < sizeof(signs) / sizeof(signs[0]); i++)
        if (take_sign(parser, signs[i].sign))
            return make_of(parser, signs[i].kind, left, parse_sum(parser), 0);
    if (take_word(parser, "IS")) {
        bool inverted = take_word(parser, "NOT");
        if (!take_word(parser, "NULL"))
            return fail(parser, GW_ERR_INVALID, "IS is followed by NULL or NOT NULL");
        made = make_of(parser, NODE_IS_NULL, left, 0, 0);
        if (made)
            parser->selector->nodes[made].inverted = inverted;
        return made;
    }
    bool inverted = take_word(parser, "NOT");
    if (take_word(parser, "BETWEEN")) {
        uint16_t low = parse_sum(parser);
        if (!take_word(parser, "AND"))
            return fail(parser, GW_ERR_INVALID, "BETWEEN is followed by two values with AND between them");
        made = make_of(parser, NODE_BETWEEN, left, low, parse_sum(parser));
    } else if (take_word(parser, "IN")) {
        made = parse_in(parser, left);
    } else if (take_word(parser, "LIKE")) {
        made = parse_like(parser, left);
    } else {
        return inverted ? fail(parser, GW_ERR_INVALID, "NOT is followed here by BETWEEN, IN or LIKE") : left;
    }
    if (made)
        parser->selector->nodes[made].inverted = inverted;
    return made;
}

static uint16_t parse_not(struct parser *parser)
{
    if (!take_word(parser, "NOT"))
        return parse_comparison(parser);
    uint16_t of = deeper(parser) ? parse_not(parser) : 0;
    parser->depth--;
    return make_of(parser, NODE_NOT, of, 0, 0);
}

/* Those that are joined by one operator lie behind each other, however many there are. */
static uint16_t parse_joined(struct parser *parser, enum node_kind kind, const char *word, uint16_t (*operand)(struct parser *parser))
{
    uint16_t first = operand(parser), last = first;
    if (!is_word(parser, word))
        return first;
    while (!parser->err && take_word(parser, word)) {
        uint16_t next = operand(parser);
        if (!parser->err)
            parser->selector->nodes[last].next = next;
        last = next;
    }
    return make_of(parser, kind, first, 0, 0);
}

static uint16_t parse_and(struct parser *parser) { return parse_joined(parser, NODE_AND, "AND", parse_not); }
static uint16_t parse_or(struct parser *parser) { return parse_joined(parser, NODE_OR, "OR", parse_and); }

/* ---- lifecycle ----------------------------------------------------------------------------------------------------------- */

static struct selector *selector_new(struct bytes text)
{
    struct selector *selector = calloc(1, sizeof(*selector));
    if (selector)
        selector->own = malloc(text.size + 1);
    if (!selector || !selector->own) {
        free(selector);
        return NULL;
    }
    if (text.size)
        memcpy(selector->own, text.data, text.size);
    selector->size = text.size;
    return selector;
}

void selector_free(struct selector *selector)
{
    if (!selector)
        return;
    free(selector->nodes);
    free(selector->own);
    free(selector);
}

enum gw_err selector_compile(struct bytes text, struct selector **made, char *why, size_t room)
{
    *made = NULL;
    if (text.size > SELECTOR_SIZE_MAX) {
        snprintf(why, room, "it is longer than %u bytes", SELECTOR_SIZE_MAX);
        return GW_ERR_LIMIT;
    }
    struct selector *selector = selector_new(text);
    if (!selector)
        return GW_ERR_NOMEM;
    struct parser parser = {.selector = selector, .begin = selector->own, .at = selector->own, .end = selector->own + text.size, .token_at = selector->own, .why = why,
                            .room = room};
    advance(&parser);
    selector->root = parse_or(&parser);
    if (!parser.err && parser.token != TOKEN_END)
        fail(&parser, GW_ERR_INVALID, "this comes after the end of the expression");
    if (parser.err) {
        selector_free(selector);
        return parser.err;
    }
    *made = selector;
    return GW_OK;
}

enum gw_err selector_from_table(struct bytes table, struct selector **made, char *why, size_t room)
{
    *made = NULL;
    if (table.size > SELECTOR_SIZE_MAX) {
        snprintf(why, room, "it is longer than %u bytes", SELECTOR_SIZE_MAX);
        return GW_ERR_LIMIT;
    }
    struct selector *selector = selector_new(table);
    if (!selector)
        return GW_ERR_NOMEM;
    struct parser parser = {.selector = selector, .why = why, .room = room};
    struct amqp_field field;
    uint16_t first = 0, last = 0;
    for (struct bytes rest = bytes_of(selector->own, table.size); !parser.err && amqp_table_next(&rest, &field) == WIRE_OK;) {
        struct value value = of_field(&field);
        struct node node = {.kind = value.kind == VALUE_TEXT ? NODE_TEXT : value.kind == VALUE_WHOLE ? NODE_WHOLE : value.kind == VALUE_REAL ? NODE_REAL : NODE_BOOL};
        if (value.kind == VALUE_UNKNOWN) {
            snprintf(why, room, "the header '%.*s' is neither a text nor a number nor a boolean", field.name.size > 100 ? 100 : (int)field.name.size,
                     (const char *)field.name.data);
            parser.err = GW_ERR_INVALID;
            break;
        }
        if (value.kind == VALUE_TEXT)
            node.text = value.text;
        else if (value.kind == VALUE_REAL)
            node.real = value.real;
        else
            node.whole = value.whole;
        uint16_t name = make(&parser, (struct node){.kind = NODE_HEADER, .text = field.name}), is = make(&parser, node);
        uint16_t equal = make_of(&parser, NODE_EQUAL, name, is, 0);
        if (last && !parser.err)
            selector->nodes[last].next = equal;
        first = first ? first : equal;
        last = equal;
    }
    selector->root = first ? make_of(&parser, NODE_AND, first, 0, 0) : make(&parser, (struct node){.kind = NODE_BOOL, .whole = 1});
    if (parser.err) {
        selector_free(selector);
        return parser.err;
    }
    *made = selector;
    return GW_OK;
}

enum gw_err selector_of_field(const struct amqp_field *field, struct selector **selector, char *why, size_t room)
{
    return field->type == 'S' ? selector_compile(field->bytes, selector, why, room) : selector_from_table(field->bytes, selector, why, room);
}

/* ---- matching ------------------------------------------------------------------------------------------------------------ */

struct subject {
    const struct selector *selector;
    const struct message *message;
    struct amqp_properties properties;
    bool decoded, bad;               /* the properties are looked at once, when they are first needed */
};

static const struct amqp_properties *properties_of(struct subject *subject)
{
    if (!subject->decoded) {
        subject->decoded = true;
        subject->bad = !amqp_properties_decode(subject->message->properties, &subject->properties);
        if (subject->bad)
            subject->properties = (struct amqp_properties){0};
    }
    return &subject->properties;
}

static struct value header(struct subject *subject, struct bytes name)
{
    struct bytes rest = properties_of(subject)->flags & AMQP_HEADERS ? properties_of(subject)->headers : (struct bytes){0};
    struct amqp_field field;
    while (amqp_table_next(&rest, &field) == WIRE_OK)
        if (bytes_equal(field.name, name))
            return of_field(&field);
    return unknown;
}

static struct value property(struct subject *subject, unsigned which)
{
    const struct amqp_properties *properties = properties_of(subject);
    const struct { unsigned flag; const struct bytes *text; } texts[] = {
        {AMQP_MESSAGE_ID, &properties->message_id}, {AMQP_CORRELATION_ID, &properties->correlation_id}, {AMQP_CONTENT_TYPE, &properties->content_type},
        {AMQP_CONTENT_ENCODING, &properties->content_encoding}, {AMQP_REPLY_TO, &properties->reply_to}, {AMQP_EXPIRATION, &properties->expiration},
        {AMQP_TYPE, &properties->type}, {AMQP_USER_ID, &properties->user_id}, {AMQP_APP_ID, &properties->app_id},
    };
    if (which <= PROPERTY_APP_ID)
        return properties->flags & texts[which].flag ? text_of(*texts[which].text) : unknown;
    switch ((enum property)which) {
    case PROPERTY_TIMESTAMP: return properties->flags & AMQP_MESSAGE_TIMESTAMP ? whole_of((int64_t)properties->timestamp) : unknown;
    case PROPERTY_PRIORITY: return properties->flags & AMQP_PRIORITY ? whole_of(properties->priority) : unknown;
    case PROPERTY_DELIVERY_MODE: return properties->flags & AMQP_DELIVERY_MODE ? whole_of(properties->delivery_mode) : unknown;
    case PROPERTY_EXCHANGE: return text_of(subject->message->exchange);
    case PROPERTY_ROUTING_KEY: return text_of(subject->message->routing_key);
    default: return whole_of((int64_t)subject->message->body.size);
    }
}

/* UNKNOWN: they cannot be compared; otherwise the WHOLE is below, at or above 0. */
static struct value order(const struct value *a, const struct value *b)
{
    if (a->kind == VALUE_WHOLE && b->kind == VALUE_WHOLE)
        return whole_of((a->whole > b->whole) - (a->whole < b->whole));
    if (!is_number(a) || !is_number(b) || isnan(as_real(a)) || isnan(as_real(b)))
        return unknown;
    return whole_of((as_real(a) > as_real(b)) - (as_real(a) < as_real(b)));
}

static struct value equal(const struct value *a, const struct value *b)
{
    if (a->kind == VALUE_TEXT && b->kind == VALUE_TEXT)
        return truth(bytes_equal(a->text, b->text));
    if (a->kind == VALUE_BOOL && b->kind == VALUE_BOOL)
        return truth(a->whole == b->whole);
    struct value found = order(a, b);
    return found.kind == VALUE_UNKNOWN ? unknown : truth(found.whole == 0);
}

static struct value invert(struct value value)
{
    return value.kind == VALUE_BOOL ? truth(!value.whole) : unknown;
}

static struct value compare(enum node_kind kind, const struct value *a, const struct value *b)
{
    if (kind == NODE_EQUAL)
        return equal(a, b);
    if (kind == NODE_UNEQUAL)
        return invert(equal(a, b));
    struct value found = order(a, b);
    if (found.kind == VALUE_UNKNOWN)
        return unknown;
    return truth(kind == NODE_LESS ? found.whole < 0 : kind == NODE_LESS_EQUAL ? found.whole <= 0 : kind == NODE_GREATER ? found.whole > 0 : found.whole >= 0);
}

static struct value calculate(enum node_kind kind, const struct value *a, const struct value *b)
{
    int64_t whole = 0;
    if (!is_number(a) || !is_number(b))
        return unknown;
    if (a->kind == VALUE_WHOLE && b->kind == VALUE_WHOLE) {
        bool overflow = kind == NODE_ADD ? __builtin_add_overflow(a->whole, b->whole, &whole)
                        : kind == NODE_SUBTRACT ? __builtin_sub_overflow(a->whole, b->whole, &whole)
                        : kind == NODE_MULTIPLY ? __builtin_mul_overflow(a->whole, b->whole, &whole)
                                                : !b->whole || (a->whole == INT64_MIN && b->whole == -1);
        if (kind == NODE_DIVIDE && !overflow)
            whole = a->whole / b->whole;
        return overflow ? unknown : whole_of(whole);
    }
    double x = as_real(a), y = as_real(b);
    return real_of(kind == NODE_ADD ? x + y : kind == NODE_SUBTRACT ? x - y : kind == NODE_MULTIPLY ? x * y : x / y);
}

static struct value evaluate(struct subject *subject, uint16_t at);

static struct value join(struct subject *subject, const struct node *node)
{
    bool decides = node->kind == NODE_OR;   /* which truth settles it */
    struct value all = truth(!decides);
    for (uint16_t at = node->first; at; at = subject->selector->nodes[at].next) {
        struct value value = evaluate(subject, at);
        if (value.kind == VALUE_BOOL && value.whole == decides)
            return value;
        if (value.kind != VALUE_BOOL)
            all = unknown;
    }
    return all;
}

static struct value is_in(struct subject *subject, const struct node *node)
{
    const struct node *nodes = subject->selector->nodes;
    struct value value = evaluate(subject, node->first), found;
    if (value.kind != VALUE_TEXT && !is_number(&value))
        return unknown;
    for (uint16_t at = nodes[node->first].next; at; at = nodes[at].next) {
        struct value other = evaluate(subject, at);
        found = equal(&value, &other);
        if (found.kind == VALUE_BOOL && found.whole)
            return truth(true);
    }
    return truth(false);
}

static struct value is_between(struct subject *subject, const struct node *node)
{
    const struct node *nodes = subject->selector->nodes;
    uint16_t second = nodes[node->first].next;
    struct value value = evaluate(subject, node->first), low = evaluate(subject, second), high = evaluate(subject, nodes[second].next);
    struct value above = compare(NODE_GREATER_EQUAL, &value, &low), below = compare(NODE_LESS_EQUAL, &value, &high);
    if ((above.kind == VALUE_BOOL && !above.whole) || (below.kind == VALUE_BOOL && !below.whole))
        return truth(false);
    return above.kind == VALUE_BOOL && below.kind == VALUE_BOOL ? truth(true) : unknown;
}

static struct value evaluate_more(struct subject *subject, const struct node *node)
{
    struct value value;
    switch ((enum node_kind)node->kind) {
    case NODE_BETWEEN: value = is_between(subject, node); break;
    case NODE_IN: value = is_in(subject, node); break;
    case NODE_IS_NULL: value = truth(evaluate(subject, node->first).kind == VALUE_UNKNOWN); break;
    default:
        value = evaluate(subject, node->first);
        value = value.kind == VALUE_TEXT ? truth(like_matches(value.text, node->text, node->escape)) : unknown;
    }
    return node->inverted ? invert(value) : value;
}

static struct value evaluate(struct subject *subject, uint16_t at)
{
    const struct node *node = &subject->selector->nodes[at];
    struct value a, b;
    switch ((enum node_kind)node->kind) {
    case NODE_OR:
    case NODE_AND: return join(subject, node);
    case NODE_NOT: return invert(evaluate(subject, node->first));
    case NODE_HEADER: return header(subject, node->text);
    case NODE_PROPERTY: return property(subject, node->property);
    case NODE_TEXT: return text_of(node->text);
    case NODE_WHOLE: return whole_of(node->whole);
    case NODE_REAL: return real_of(node->real);
    case NODE_BOOL: return truth(node->whole);
    case NODE_NEGATE:
        a = evaluate(subject, node->first);
        b = whole_of(0);
        return calculate(NODE_SUBTRACT, &b, &a);
    case NODE_BETWEEN:
    case NODE_IN:
    case NODE_LIKE:
    case NODE_IS_NULL: return evaluate_more(subject, node);
    default: break;
    }
    a = evaluate(subject, node->first);
    b = evaluate(subject, subject->selector->nodes[node->first].next);
    return node->kind <= NODE_GREATER_EQUAL ? compare(node->kind, &a, &b) : calculate(node->kind, &a, &b);
}

bool selector_matches(const struct selector *selector, const struct message *message)
{
    struct subject subject;
    subject.selector = selector;
    subject.message = message;
    subject.decoded = false;
    struct value value = evaluate(&subject, selector->root);
    return value.kind == VALUE_BOOL && value.whole;
}

unsigned selector_cost(const struct selector *selector, const struct message *message)
{
    return 1 + (unsigned)(message->properties.size * selector->size / WORK_OF_ONE);
}

/* ---- terms ------------------------------------------------------------------------------------------------------------- */

uint64_t selector_term(struct bytes name, struct bytes value)
{
    return bytes_hash(value, bytes_hash(name, 0x73656c65));
}

static unsigned add_term(const struct selector *selector, const struct node *node, uint64_t *hashes, unsigned count)
{
    const struct node *a = &selector->nodes[node->first], *b = &selector->nodes[a->next];
    if (node->kind != NODE_EQUAL || count == SELECTOR_TERMS_MAX)
        return count;
    if (a->kind == NODE_TEXT && b->kind == NODE_HEADER) {
        const struct node *swap = a;
        a = b;
        b = swap;
    }
    if (a->kind == NODE_HEADER && b->kind == NODE_TEXT)
        hashes[count++] = selector_term(a->text, b->text);
    return count;
}

unsigned selector_terms(const struct selector *selector, uint64_t hashes[SELECTOR_TERMS_MAX])
{
    const struct node *root = &selector->nodes[selector->root];
    unsigned count = 0;
    if (root->kind != NODE_AND)
        return root->kind == NODE_EQUAL ? add_term(selector, root, hashes, 0) : 0;
    for (uint16_t at = root->first; at; at = selector->nodes[at].next)
        count = add_term(selector, &selector->nodes[at], hashes, count);
    return count;
}
