/* Private to the conf_*.c files: the rows of tbl/options.h as data, and shared functions. */
#pragma once

#include <stdatomic.h>

#include "conf.h"

/* One constant an option, in the order of the rows: OPTION_ID_server_listen. */
enum option_id {
#define OPTION_TEXT(section, name, initial, reload, help)              OPTION_ID_##section##_##name,
#define OPTION_LIST(section, name, initial, reload, help)              OPTION_ID_##section##_##name,
#define OPTION_INT(section, name, initial, min, max, reload, help)     OPTION_ID_##section##_##name,
#define OPTION_BYTES(section, name, initial, min, max, reload, help)   OPTION_ID_##section##_##name,
#define OPTION_SECONDS(section, name, initial, min, max, reload, help) OPTION_ID_##section##_##name,
#define OPTION_MILLIS(section, name, initial, min, max, reload, help)  OPTION_ID_##section##_##name,
#define OPTION_BOOL(section, name, initial, reload, help)              OPTION_ID_##section##_##name,
#define OPTION_ENUM(section, name, type, words, initial, reload, help) OPTION_ID_##section##_##name,
#define OPTION_FLAGS(section, name, words, initial, reload, help)      OPTION_ID_##section##_##name,
#include "tbl/options.h"
    OPTION_COUNT
};

struct option_row;

/* The common part of all options of a type. `field` points into a struct conf. */
struct option_type {
    /* Replaces the field's value; false leaves it unchanged. */
    bool (*parse)(const struct option_row *row, struct text value, void *field);
    void (*print)(const struct option_row *row, const void *field, struct buffer *out);
    /* Appends the form of a value: "a time from 10ms to 1m (units: ms, s, m)". */
    void (*describe)(const struct option_row *row, struct buffer *out);
    /* Sets the row's default in zeroed memory. */
    void (*set_initial)(const struct option_row *row, void *field);
    void (*release)(void *field);
};

extern const struct option_type option_type_text, option_type_list, option_type_number,
    option_type_bool, option_type_enum, option_type_flags;

/* The name of a kind of number and its units, ended by a unit without a suffix. */
struct option_units {
    const char *what;
    struct option_unit {
        const char *suffix;
        int64_t factor;
    } list[5];
};

extern const struct option_units option_units_int, option_units_bytes, option_units_seconds,
    option_units_millis;

struct option_row {
    const char *section, *name;
    const struct option_type *type;
    size_t offset;            /* of the field in struct conf */
    const char *initial_text; /* text and list */
    int64_t initial;          /* all others */
    int64_t minimum, maximum;
    const struct option_units *units; /* numbers */
    const char *words;                /* enum, flags, bool: "first|second" */
    bool reload;
    const char *help;
};

extern const struct option_row option_rows[OPTION_COUNT];

/* The row of a section's option, NULL if there is none. */
const struct option_row *conf_option_find(struct text section, struct text name);
/* True if any row is of this section. */
bool conf_option_section_exists(struct text section);
void *conf_option_field(const struct option_row *row, struct conf *conf);
const void *conf_option_value(const struct option_row *row, const struct conf *conf);
/* True if both have the same value, compared as it is printed. */
bool conf_option_is_same(const struct option_row *row, const struct conf *a, const struct conf *b);

/* Takes the next word off the front of *rest; absent at the end. Blanks separate; with `commas`,
 * commas too. */
struct text conf_next_word(struct text *rest, bool commas);

/* Problems found in one file, and the lines of its options. */
struct conf_report {
    const char *path;
    struct buffer *messages;
    unsigned lines[OPTION_COUNT]; /* 0: not in the file */
    bool refused[OPTION_COUNT];   /* its value was refused; the field holds the default */
};

/* Adds a message; line 0 stands for the file as a whole. */
void conf_report_at(struct conf_report *report, unsigned line, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* Refuses single values that their type cannot judge, and options that contradict each other. */
void conf_check(const struct conf *conf, struct conf_report *report);

/* Sections [key:NAME] before they enter conf->keys. */
struct conf_key_draft {
    struct service_key key;
    unsigned line; /* of the heading */
    unsigned seen; /* options given, one bit each */
    bool refused;  /* a value was refused: the key is not whole */
    struct conf_key_draft *next;
};

/* Starts a section, at the head of the list; reports a bad or repeated name. */
void conf_key_begin(struct conf_report *report, struct conf_key_draft **drafts, struct text name,
                    unsigned line);
/* One option of the section. */
void conf_key_set(struct conf_report *report, struct conf_key_draft *draft, unsigned line,
                  struct text name, struct text value);
/* Reports what is missing or repeated, moves the keys into conf, frees the drafts. */
void conf_keys_finish(struct conf_report *report, struct conf_key_draft **drafts,
                      struct conf *conf);

/* Sections [audience:NAME] before they enter conf->audiences; used as those above. */
struct conf_audience_draft {
    struct audience audience;
    unsigned line; /* of the heading */
    unsigned seen; /* options given, one bit each */
    struct conf_audience_draft *next;
};
void conf_audience_begin(struct conf_report *report, struct conf_audience_draft **drafts,
                         struct text name, unsigned line);
void conf_audience_set(struct conf_report *report, struct conf_audience_draft *draft, unsigned line,
                       struct text name, struct text value);
/* An audience without an issuer is reported: nobody could tell who signed. */
void conf_audiences_finish(struct conf_report *report, struct conf_audience_draft **drafts,
                           struct conf *conf);
/* The options of such a section; `offset` is in struct audience. */
enum { AUDIENCE_ROWS = 5 };
extern const struct option_row conf_audience_rows[AUDIENCE_ROWS];
void *conf_audience_field(const struct option_row *row, const struct audience *audience);
/* Appends the section as it stands in a file. */
void conf_dump_audience(const struct audience *audience, struct buffer *out);
bool conf_audience_is_same(const struct audience *a, const struct audience *b);
/* Frees what the audience holds. */
void conf_audience_release(struct audience *audience);

/* A struct conf and the number of its references. */
struct counted_conf {
    struct conf conf; /* first: pointers to both are the same */
    atomic_uint references;
};
