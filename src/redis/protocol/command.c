/* Written straight into a buffer that is kept, because hiredis' formatter allocates for every
 * command. */
#include "command.h"

void command_begin(struct buffer *out, size_t count)
{
    buffer_add_char(out, '*');
    buffer_add_int(out, (int64_t)count);
    buffer_add_literal(out, "\r\n");
}

void command_argument(struct buffer *out, struct text argument)
{
    buffer_add_char(out, '$');
    buffer_add_int(out, (int64_t)argument.length);
    buffer_add_literal(out, "\r\n");
    buffer_add(out, argument.data, argument.length);
    buffer_add_literal(out, "\r\n");
}

void command_append(struct buffer *out, const struct text *arguments, size_t count)
{
    command_begin(out, count);
    for (size_t i = 0; i < count; i++)
        command_argument(out, arguments[i]);
}
