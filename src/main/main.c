/* Reads the command line: one command and its options. Everything unexpected is refused. */
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include "command.h"
#include "reload.h"

static const char usage[] =
    "usage: sessiond [--config FILE]                  run the service (FILE: " DEFAULT_CONFIG ")\n"
    "       sessiond check-config FILE                read and check a configuration\n"
    "       sessiond reload PID                       have that process read its configuration\n"
    "                                                 again; fails if it refuses\n"
    "       sessiond --dump-config [--config FILE]    print every option with its value\n"
    "       sessiond --dump-config=commented          the same with explanations\n"
    "       sessiond keygen --name NAME --scopes \"SCOPE …\" --tenant TENANT\n"
    "                                                 make a service key; its scopes:\n"
#define SCOPE(id, name, help) \
    "                                                 " name ": " help "\n"
#include "tbl/scopes.h"
#undef SCOPE
    "                                                 rate, cache_quota and force_logout of a\n"
    "                                                 policy belong to the platform: only keys\n"
    "                                                 of --tenant \"*\" change them\n"
    "       sessiond keys --tenant TENANT [--user USER] [--config FILE]\n"
    "                                                 print the names of a user's keys in\n"
    "                                                 Redis, or of a tenant's own: name, hash\n"
    "                                                 slot, type, what it holds; \"*\" stands for\n"
    "                                                 what differs\n"
    "       sessiond --version\n"
    "       sessiond --help\n";

static int command_help(const struct arguments *arguments)
{
    (void)arguments;
    fputs(usage, stdout);
    return EXIT_DONE;
}

/* Options with a value, and the member that gets it. */
static const struct option {
    const char *name;
    size_t offset;
} options[] = {
    {"--config", offsetof(struct arguments, config)},
    {"--name", offsetof(struct arguments, name)},
    {"--scopes", offsetof(struct arguments, scopes)},
    {"--tenant", offsetof(struct arguments, tenant)},
    {"--user", offsetof(struct arguments, user)},
};
enum { OPTIONS = sizeof(options) / sizeof(options[0]) };
enum { CONFIG = 1, NAME = 2, SCOPES = 4, TENANT = 8, USER = 16 }; /* bits in their order */

static const struct command {
    const char *word;
    int (*run)(const struct arguments *arguments);
    unsigned needed, allowed; /* options */
    const char *operand;      /* the word that follows; NULL: none */
} commands[] = {
    {"", daemon_run, 0, CONFIG, NULL},
    {"check-config", command_check_config, 0, 0, "a file name"},
    {"reload", reload_command, 0, 0, "the id of a process"},
    {"--dump-config", command_dump_config, 0, CONFIG, NULL},
    {"--dump-config=commented", command_dump_commented, 0, CONFIG, NULL},
    {"keygen", command_keygen, NAME | SCOPES | TENANT, 0, NULL},
    {"keys", command_keys, TENANT, USER | CONFIG, NULL},
    {"--version", command_version, 0, 0, NULL},
    {"--help", command_help, 0, 0, NULL},
    {"-h", command_help, 0, 0, NULL},
};

static int refuse_argument(const char *argument, const char *why)
{
    fprintf(stderr, "sessiond: '%s' %s; see sessiond --help\n", argument, why);
    return EXIT_USAGE;
}

static const struct command *find_command(const char *word)
{
    for (size_t i = 0; i < sizeof(commands) / sizeof(commands[0]); i++)
        if (strcmp(commands[i].word, word) == 0)
            return &commands[i];
    return NULL;
}

/* Index of the option in "--name" or "--name=value"; OPTIONS if it is none. */
static size_t find_option(const char *argument)
{
    size_t length = strcspn(argument, "=");
    size_t found = 0;
    while (found < OPTIONS && (strlen(options[found].name) != length ||
                               strncmp(options[found].name, argument, length) != 0))
        found++;
    return found;
}

/* The command line as read so far. */
struct parsed {
    const struct command *command;
    struct arguments arguments;
    unsigned given; /* options */
};

/* Reads the option at argv[*at], and its value from there or from the next word. */
static int parse_option(struct parsed *parsed, size_t index, int argc, char **argv, int *at)
{
    const char *name = options[index].name;
    const char *value = strchr(argv[*at], '=');
    if ((parsed->given & (1u << index)) != 0)
        return refuse_argument(name, "is given twice");
    if (value != NULL)
        value++;
    else if (*at + 1 < argc)
        value = argv[++*at];
    else
        return refuse_argument(name, "needs a value");
    if (value[0] == '\0')
        return refuse_argument(name, "needs a value");
    parsed->given |= 1u << index;
    memcpy((char *)&parsed->arguments + options[index].offset, &value, sizeof(value));
    return EXIT_DONE;
}

static int parse_word(struct parsed *parsed, const char *word)
{
    const struct command *command = word[0] != '\0' ? find_command(word) : NULL;
    bool wanted = parsed->command != NULL && parsed->command->operand != NULL;
    if (wanted && parsed->arguments.operand == NULL && word[0] != '-')
        parsed->arguments.operand = word;
    else if (command != NULL && (parsed->command == NULL || command->run == command_help))
        parsed->command = command;
    else
        return refuse_argument(word, "is not understood");
    return EXIT_DONE;
}

static int check_options(const struct parsed *parsed)
{
    const struct command *command = parsed->command;
    if (command->run == command_help) /* --help may follow any other words */
        return EXIT_DONE;
    for (size_t i = 0; i < OPTIONS; i++) {
        unsigned bit = 1u << i;
        if ((command->needed & bit) != 0 && (parsed->given & bit) == 0)
            return refuse_argument(options[i].name, "is missing");
        if (((command->needed | command->allowed) & bit) == 0 && (parsed->given & bit) != 0)
            return refuse_argument(options[i].name, "has no meaning here");
    }
    if (command->operand != NULL && parsed->arguments.operand == NULL) {
        fprintf(stderr, "sessiond: '%s' needs %s; see sessiond --help\n", command->word,
                command->operand);
        return EXIT_USAGE;
    }
    return EXIT_DONE;
}

int main(int argc, char **argv)
{
    struct parsed parsed = {0};
    for (int at = 1; at < argc; at++) {
        size_t index = find_option(argv[at]);
        int refused = index < OPTIONS ? parse_option(&parsed, index, argc, argv, &at)
                                      : parse_word(&parsed, argv[at]);
        if (refused != EXIT_DONE)
            return refused;
    }
    if (parsed.command == NULL)
        parsed.command = find_command("");
    int refused = check_options(&parsed);
    if (refused != EXIT_DONE)
        return refused;
    crypto_init();
    return parsed.command->run(&parsed.arguments);
}
