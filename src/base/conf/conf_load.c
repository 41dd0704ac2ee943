/* Reading the file. The only user of libinih.
 *
 * inih splits lines into name and value and strips comments. Its input comes line by line from a
 * reader here, which makes up for three faults: inih gives handlers no line numbers, cuts section
 * names at 49 bytes, and ignores an unknown section without options. So the reader counts lines,
 * parses headings itself, and gives inih an empty line for each. Continuation lines are off: an
 * indented option must not silently become part of the one above. */
#include "conf_options.h"

#include <errno.h>
#include <ini.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "log.h"
#include "memory.h"

#define LINE_LENGTH_MAX 8191

enum section_kind {
    SECTION_NONE,     /* before the first heading */
    SECTION_OPTIONS,  /* one of tbl/options.h */
    SECTION_KEY,      /* [key:NAME] */
    SECTION_AUDIENCE, /* [audience:NAME] */
    SECTION_REFUSED   /* reported; its options are skipped */
};

struct loader {
    FILE *file;
    char *line; /* getline()'s */
    size_t capacity;
    unsigned number; /* of the current line */
    enum section_kind kind;
    char *section; /* SECTION_OPTIONS: its name */
    struct conf_key_draft *drafts;
    struct conf_audience_draft *audiences;
    struct conf *conf;
    struct conf_report report;
};

void conf_report_at(struct conf_report *report, unsigned line, const char *format, ...)
{
    buffer_add_text(report->messages, text_of(report->path));
    if (line > 0)
        buffer_addf(report->messages, ":%u", line);
    buffer_add_literal(report->messages, ": ");
    char message[1024];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(message, sizeof(message), format, arguments);
    va_end(arguments);
    buffer_addf(report->messages, "%s\n", message);
}

/* Strips blanks and line ends from both sides. */
static struct text stripped(struct text text)
{
    while (text.length > 0 && strchr(" \t\r\n", text.data[text.length - 1]) != NULL)
        text.length--;
    while (text.length > 0 && strchr(" \t", text.data[0]) != NULL) {
        text.data++;
        text.length--;
    }
    return text;
}

/* Cuts the prefix off a section's name; false if the name has another. */
static bool cut_prefix(struct text *name, struct text prefix)
{
    if (name->length < prefix.length || memcmp(name->data, prefix.data, prefix.length) != 0)
        return false;
    *name = (struct text){name->data + prefix.length, name->length - prefix.length};
    return true;
}

static void enter_section(struct loader *loader, struct text name)
{
    char quoted[96];
    free(loader->section);
    loader->section = xstrndup(name.data, name.length);
    if (cut_prefix(&name, TEXT("key:"))) {
        conf_key_begin(&loader->report, &loader->drafts, name, loader->number);
        loader->kind = SECTION_KEY;
    } else if (cut_prefix(&name, TEXT("audience:"))) {
        conf_audience_begin(&loader->report, &loader->audiences, name, loader->number);
        loader->kind = SECTION_AUDIENCE;
    } else if (conf_option_section_exists(name)) {
        loader->kind = SECTION_OPTIONS;
    } else {
        conf_report_at(&loader->report, loader->number, "there is no section [%s]",
                       log_quote(quoted, sizeof(quoted), name));
        loader->kind = SECTION_REFUSED;
    }
}

/* "[name]", followed by nothing but a comment. */
static void read_heading(struct loader *loader, struct text line)
{
    const char *end = memchr(line.data, ']', line.length);
    struct text rest = {0};
    if (end != NULL)
        rest = stripped((struct text){end + 1, line.length - (size_t)(end + 1 - line.data)});
    if (end == NULL || (rest.length > 0 && rest.data[0] != '#' && rest.data[0] != ';')) {
        conf_report_at(&loader->report, loader->number, "a heading has the form [section]");
        loader->kind = SECTION_REFUSED;
        return;
    }
    enter_section(loader, (struct text){line.data + 1, (size_t)(end - line.data) - 1});
}

/* True if the line is one for inih: an option, a comment, or blank. */
static bool is_for_inih(struct loader *loader, size_t length)
{
    if (memchr(loader->line, '\0', length) != NULL || length > LINE_LENGTH_MAX) {
        conf_report_at(&loader->report, loader->number,
                       "a line has at most %d bytes and no NUL among them", LINE_LENGTH_MAX);
        return false;
    }
    struct text line = stripped((struct text){loader->line, length});
    if (line.length > 0 && line.data[0] == '[') {
        read_heading(loader, line);
        return false;
    }
    return true;
}

static size_t drop_byte_order_mark(struct loader *loader, size_t length)
{
    struct text line = {loader->line, length};
    if (loader->number == 1)
        line = text_unmarked(line);
    memmove(loader->line, line.data, line.length + 1);
    return line.length;
}

/* inih's fgets. */
static char *read_conf_line(char *out, int size, void *stream)
{
    struct loader *loader = stream;
    ssize_t got = getline(&loader->line, &loader->capacity, loader->file);
    if (got < 0)
        return NULL;
    loader->number++;
    size_t length = drop_byte_order_mark(loader, (size_t)got);
    const char *line = is_for_inih(loader, length) ? loader->line : "\n";
    snprintf(out, (size_t)size, "%s", line);
    return out;
}

static void refuse_value(struct conf_report *report, unsigned line, const struct option_row *row,
                         struct text value)
{
    char quoted[96];
    SCOPED(buffer_free) struct buffer wanted = {0};
    row->type->describe(row, &wanted);
    conf_report_at(report, line, "[%s] %s must be %.*s, not '%s'", row->section, row->name,
                   (int)wanted.length, wanted.data, log_quote(quoted, sizeof(quoted), value));
}

static bool is_quoted(struct text value)
{
    const char first = value.length > 1 ? value.data[0] : '\0';
    return (first == '"' || first == '\'') && value.data[value.length - 1] == first;
}

static void set_option(struct loader *loader, struct text name, struct text value)
{
    struct conf_report *report = &loader->report;
    const struct option_row *row = conf_option_find(text_of(loader->section), name);
    if (row == NULL) {
        char quoted[96];
        conf_report_at(report, loader->number, "there is no option '%s' in section [%s]",
                       log_quote(quoted, sizeof(quoted), name), loader->section);
        return;
    }
    size_t index = (size_t)(row - option_rows);
    if (report->lines[index] > 0) {
        conf_report_at(report, loader->number, "[%s] %s was already set in line %u", row->section,
                       row->name, report->lines[index]);
        return;
    }
    report->lines[index] = loader->number;
    if (is_quoted(value)) {
        report->refused[index] = true;
        conf_report_at(report, loader->number,
                       "[%s] %s is in quotes, which would be part of the value; write it without",
                       row->section, row->name);
        return;
    }
    if (!row->type->parse(row, value, conf_option_field(row, loader->conf))) {
        report->refused[index] = true;
        refuse_value(report, loader->number, row, value);
    }
}

/* inih's handler: one "name = value". */
static int handle_option(void *user, const char *section, const char *name, const char *value)
{
    (void)section; /* cut short by inih; the reader has it */
    struct loader *loader = user;
    struct conf_report *report = &loader->report;
    if (loader->kind == SECTION_REFUSED)
        return 1;
    if (value == NULL)
        conf_report_at(report, loader->number, "an option has the form name = value");
    else if (loader->kind == SECTION_NONE)
        conf_report_at(report, loader->number, "an option must stand below a [section]");
    else if (loader->kind == SECTION_KEY)
        conf_key_set(report, loader->drafts, loader->number, text_of(name), text_of(value));
    else if (loader->kind == SECTION_AUDIENCE)
        conf_audience_set(report, loader->audiences, loader->number, text_of(name), text_of(value));
    else
        set_option(loader, text_of(name), text_of(value));
    return 1;
}

static void configure_inih(void)
{
    ini_use_stack = false;
    ini_allow_realloc = false;
    ini_initial_alloc = LINE_LENGTH_MAX + 1;
    ini_allow_multiline = false;
    ini_allow_no_value = true;
    ini_allow_inline_comments = true;
    static char comment[] = "#;";
    ini_inline_comment_prefixes = comment;
    ini_start_comment_prefixes = comment;
}

static void load_lines(struct loader *loader)
{
    struct conf_report *report = &loader->report;
    configure_inih();
    int result = ini_parse_stream(read_conf_line, loader, handle_option, loader);
    if (ferror(loader->file))
        conf_report_at(report, 0, "cannot be read: %s", strerror(errno));
    else if (result != 0)
        conf_report_at(report, result > 0 ? (unsigned)result : 0, "is not understood");
    conf_keys_finish(report, &loader->drafts, loader->conf);
    conf_audiences_finish(report, &loader->audiences, loader->conf);
    conf_check(loader->conf, report);
}

struct conf *conf_load(const char *path, struct buffer *error)
{
    struct loader loader = {.report = {.path = path, .messages = error}};
    size_t before = error->length;
    loader.file = fopen(path, "re");
    if (loader.file == NULL) {
        conf_report_at(&loader.report, 0, "cannot be opened: %s", strerror(errno));
        return NULL;
    }
    loader.conf = conf_defaults();
    loader.conf->path = xstrdup(path);
    load_lines(&loader);
    fclose(loader.file);
    free(loader.line);
    free(loader.section);
    if (error->length > before)
        conf_unref(&loader.conf);
    return loader.conf;
}
