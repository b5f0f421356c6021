#include "sources/lines.h"

#include "base/err.h"

#define KEPT_ROOM 4096u

void line_splitter_init(struct line_splitter *splitter, size_t size_max)
{
    CHECK(size_max > 0 && size_max <= LINE_SIZE_MAX);
    *splitter = (struct line_splitter){.size_max = size_max};
}

void line_splitter_deinit(struct line_splitter *splitter) { text_deinit(&splitter->held); }

void line_reset(struct line_splitter *splitter, uint64_t consumed)
{
    text_clear(&splitter->held, KEPT_ROOM);
    splitter->consumed = consumed;
    splitter->is_told = splitter->is_continued = false;
}

static enum line_result tell(struct line_splitter *splitter, struct line *line, struct bytes whole, bool is_end)
{
    splitter->consumed += whole.size;
    *line = (struct line){.text = whole, .consumed = splitter->consumed, .is_whole = is_end && !splitter->is_continued};
    splitter->is_continued = !is_end;
    return LINE_READY;
}

static enum line_result tell_end(struct line_splitter *splitter, struct line *line, struct bytes whole)
{
    tell(splitter, line, whole, true);
    line->text.size--;
    if (line->text.size && line->text.data[line->text.size - 1] == '\r')
        line->text.size--;
    return LINE_READY;
}

static void let_go(struct line_splitter *splitter)
{
    if (splitter->is_told)
        text_clear(&splitter->held, KEPT_ROOM);
    splitter->is_told = false;
}

/* The first `size` bytes of the input, behind what is held. False: out of memory. */
static bool take(struct line_splitter *splitter, struct bytes *input, size_t size, struct bytes *whole)
{
    struct text *held = &splitter->held;
    *whole = bytes_of(input->data, size);
    if (held->size) {
        if (!text_add(held, *whole))
            return false;
        *whole = text_bytes(held);
        splitter->is_told = true;
    }
    *input = bytes_of(input->data + size, input->size - size);
    return true;
}

enum line_result line_next(struct line_splitter *splitter, struct bytes *input, struct line *line)
{
    struct bytes whole;
    let_go(splitter);
    if (!input->size)
        return LINE_MORE;
    size_t room = splitter->size_max - splitter->held.size;
    const uint8_t *end = memchr(input->data, '\n', input->size <= room ? input->size : room + 1);
    if (end)
        return take(splitter, input, (size_t)(end - input->data) + 1, &whole) ? tell_end(splitter, line, whole) : LINE_NO_MEMORY;
    if (input->size > room)
        return take(splitter, input, room, &whole) ? tell(splitter, line, whole, false) : LINE_NO_MEMORY;
    if (!text_add(&splitter->held, *input))
        return LINE_NO_MEMORY;
    *input = bytes_of(input->data + input->size, 0);
    return LINE_MORE;
}

enum line_result line_last(struct line_splitter *splitter, struct line *line)
{
    let_go(splitter);
    if (!splitter->held.size)
        return LINE_MORE;
    splitter->is_told = true;
    return tell(splitter, line, text_bytes(&splitter->held), true);
}
