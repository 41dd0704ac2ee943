/* The configuration printed as a file; with comments it is conf/sessiond.conf. */
#include "conf_options.h"

#include <string.h>

enum { COMMENT_COLUMNS = 96 };

static const char introduction[] =
    "# Configuration of sessiond. Every option is here with its default; docs/configuration.md\n"
    "# tells more. Check a changed file with: sessiond check-config FILE\n"
    "#\n"
    "# One option a line. A # or ; at the start of a line, or behind a blank, begins a comment.\n"
    "# Times take the units ms, s, m, h, d, sizes K, M, G. An unknown option, a value out of\n"
    "# bounds, and options that contradict each other are refused at start. On SIGHUP the file is\n"
    "# read again; if it is refused, or changes an option that needs a restart, the running\n"
    "# configuration stays.\n"
    "#\n"
    "# Services that call sessiond have a section [key:NAME] each. sessiond keygen makes it:\n"
    "#   [key:gateway]\n"
    "#   hash = the digest of the key, 64 hexadecimal digits\n"
    "#   scopes = login validate\n"
    "#   tenant = acme\n"
    "#   certificate = SHA-256 of a client certificate's public key, which stands for the key "
    "(TLS\n"
    "#     only, optional)\n"
    "#\n"
    "# Services that receive signed identities have a section [audience:NAME] each, with "
    "conditions\n"
    "# that a session must meet (all optional), and the lifetime of an identity:\n"
    "#   [audience:billing]\n"
    "#   tenant = acme\n"
    "#   role = accountant controller\n"
    "#   max_age = 12h\n"
    "#   acr = gold\n"
    "#   ttl = 30s\n";

/* Breaks the text into comment lines. */
static void add_comment(struct buffer *out, struct text text)
{
    size_t column = COMMENT_COLUMNS;
    struct text word = conf_next_word(&text, false);
    for (; word.data != NULL; word = conf_next_word(&text, false)) {
        if (column + 1 + word.length > COMMENT_COLUMNS) {
            buffer_add_text(out, out->length > 0 && out->data[out->length - 1] != '\n' ? TEXT("\n#")
                                                                                       : TEXT("#"));
            column = 1;
        }
        buffer_add_char(out, ' ');
        buffer_add_text(out, word);
        column += 1 + word.length;
    }
    buffer_add_char(out, '\n');
}

/* The form of a value, unless the help says it all, and when a change takes effect. */
static void add_rules(struct buffer *out, const struct option_row *row)
{
    SCOPED(buffer_free) struct buffer rules = {0};
    if (row->type != &option_type_text && row->type != &option_type_list) {
        buffer_add_literal(&rules, "Value: ");
        row->type->describe(row, &rules);
        buffer_add_literal(&rules, ". ");
    }
    buffer_addf(&rules, "Takes effect on %s.", row->reload ? "reload" : "restart");
    add_comment(out, buffer_text(&rules));
}

static void add_option(struct buffer *out, const struct option_row *row, const struct conf *conf)
{
    SCOPED(buffer_free) struct buffer value = {0};
    row->type->print(row, conf_option_value(row, conf), &value);
    buffer_addf(out, "%s =%s", row->name, value.length > 0 ? " " : "");
    buffer_add_text(out, buffer_text(&value));
    buffer_add_char(out, '\n');
}

void conf_dump(const struct conf *conf, bool commented, struct buffer *out)
{
    const char *section = "";
    if (commented)
        buffer_add_literal(out, introduction);
    for (const struct option_row *row = option_rows; row < option_rows + OPTION_COUNT; row++) {
        if (strcmp(section, row->section) != 0) {
            section = row->section;
            buffer_addf(out, "%s[%s]\n", out->length > 0 ? "\n" : "", section);
        }
        if (commented) {
            buffer_add_char(out, '\n');
            add_comment(out, text_of(row->help));
            add_rules(out, row);
        }
        add_option(out, row, conf);
    }
    for (size_t i = 0; i < conf->key_count; i++) {
        buffer_add_char(out, '\n');
        conf_dump_key(&conf->keys[i], out);
    }
    for (size_t i = 0; i < conf->audience_count; i++) {
        buffer_add_char(out, '\n');
        conf_dump_audience(&conf->audiences[i], out);
    }
}
