/* How libmicrohttpd 0.9.75 uses a pool of P bytes (connection.c, memorypool.c):
 *
 *   base                                                                   base + P
 *   | empty lines, head | sent behind it | rest of the buffer | free | records |
 *                                                        end of buffer
 *
 * - The buffer ends at P/2 at first, and after each answer.
 * - While the head is incomplete and the buffer full, it grows by 128 bytes, or by an eighth of
 *   what is free if that is 1024 or more.
 * - If moreover all lines in it are consumed, so that a line ended where the buffer ends, it grows
 *   by half of what is free. So it does for a body, if the head ended there.
 * - With 8192 bytes free, it also grows by an eighth of them before it is full.
 * - For the answer everything is given back but what was sent behind the head, which may reach to
 *   the end of the buffer. The library rounds that up to 16 bytes.
 */
#include "header_room.h"

#include <assert.h>

enum {
    ALIGNMENT = 16,
    PAGE = 4096,
    MAPPED = 32768,     /* larger pools are rounded up to pages */
    RECORD = 64,        /* of a header, rounded */
    MARK_COPY = 16,     /* two bytes, rounded */
    STEP = 128,         /* by which a full buffer grows */
    GROWS_EARLY = 8192, /* bytes free with which it grows before it is full */
    LEFT_THEN = 7168    /* and free after that */
};

static const char mark_name[] = "Cookie";

size_t header_room_pool_size(size_t head_memory)
{
    size_t unit = head_memory > MAPPED ? PAGE : 2 * ALIGNMENT;
    return (head_memory + unit - 1) / unit * unit;
}

void header_room_mark(struct MHD_Connection *connection)
{
    (void)MHD_set_connection_value(connection, MHD_HEADER_KIND, mark_name, "m");
}

bool header_room_is_mark(const char *name)
{
    return name == mark_name;
}

/* The library made one cookie of the mark, whose name is the copy. */
static enum MHD_Result take_copy(void *user, enum MHD_ValueKind kind, const char *name,
                                 size_t name_length, const char *value, size_t value_length)
{
    (void)kind, (void)value, (void)value_length;
    const char **copy = user;
    if (name_length == 1 && *name == 'm')
        *copy = name;
    return MHD_NO;
}

void header_room_begin(struct header_room *room, struct MHD_Connection *connection, size_t pool)
{
    const char *copy = NULL;
    int count = MHD_get_connection_values(
        connection, MHD_HEADER_KIND | MHD_COOKIE_KIND | MHD_GET_ARGUMENT_KIND, NULL, NULL);
    MHD_get_connection_values_n(connection, MHD_COOKIE_KIND, take_copy, &copy);
    *room = (struct header_room){.pool = pool, .records = (size_t)count * RECORD + MARK_COPY};
    /* The older records lie behind the copy, the cookie's own before it. */
    if (copy != NULL && room->records <= pool)
        room->base = copy + (room->records - RECORD) - pool;
}

void header_room_note_line(struct header_room *room, const char *line)
{
    size_t half = room->pool / 2;
    if (room->base == NULL || line < room->base + half)
        return;
    room->late++;
    room->on_step = room->on_step || ((size_t)(line - room->base) - half) % STEP == 0;
}

size_t header_room_head_length(const struct header_room *room, struct text head)
{
    assert(head.length > 0);
    const char *end = head.data + head.length;
    bool known = room->base != NULL && head.data >= room->base &&
                 (size_t)(end - room->base) + room->records <= room->pool;
    return known ? (size_t)(end - room->base) : 0;
}

static size_t less(size_t size, size_t taken)
{
    return size > taken ? size - taken : 0;
}

size_t header_room_for_body(const struct header_room *room, struct text head)
{
    size_t length = header_room_head_length(room, head);
    return length == 0 ? 0 : less(room->pool, length + room->records);
}

/* A head that reaches into the second half: the buffer grew at least once. */
static size_t behind_long_head(const struct header_room *room, size_t length)
{
    size_t free = less(room->pool, length + room->records);
    /* The free space was halved at a line's end. Later records are those of the lines after it, of
     * the line before it, whose record waits for the next line, and of the mark. */
    if (room->on_step || room->pool >= 2 * GROWS_EARLY)
        return less(free / 2, RECORD * (room->late + 2) + MARK_COPY);
    return less(free, STEP);
}

size_t header_room_for_answer(struct header_room *room, struct text head)
{
    size_t length = header_room_head_length(room, head);
    if (length == 0)
        return 0;
    assert(length <= room->pool);
    header_room_note_line(room, head.data); /* empty lines may have come before it */
    header_room_note_line(room, head.data + head.length - 2);
    header_room_note_line(room, head.data + head.length);
    size_t half = room->pool / 2;
    size_t left = length < half ? less(half, room->records) : behind_long_head(room, length);
    if (room->pool >= 2 * GROWS_EARLY) {
        size_t grown = less(LEFT_THEN, room->records);
        left = left < grown ? left : grown;
    }
    return less(left, ALIGNMENT);
}
