/** Man pages and shell completions, from the commands themselves. */
import type { Command, Option } from "commander";

import { sockerlessProgram } from "../../src/cli/program.ts";

/** A file by its name. */
export type NamedFiles = ReadonlyMap<string, string>;

/** A command with the words that call it: `sockerless ecs push-agent`. */
interface Called {
  readonly words: readonly string[];
  readonly command: Command;
}

/** Man pages of section 1, one for the program and one for each command. @param date as YYYY-MM-DD */
export function manPages(date: string): NamedFiles {
  const all = allCommands();
  return new Map(all.map((each) => [`${pageOf(each)}.1`, manPage(each, all, date)]));
}

/** The completion of bash. */
export function bashCompletion(): string {
  const cases = allCommands().map(
    ({ words, command }) =>
      `    "${words.join(" ")}") words="${[...subcommands(command), ...flags(command)].join(" ")}" ;;`,
  );
  return `# bash completion of sockerless
_sockerless() {
  local words="" called=sockerless word
  local current=\${COMP_WORDS[COMP_CWORD]} previous=\${COMP_WORDS[COMP_CWORD - 1]}
  case $previous in
    ${fileFlags().join(" | ")})
      mapfile -t COMPREPLY < <(compgen -f -- "$current")
      return
      ;;
  esac
  for word in "\${COMP_WORDS[@]:1:COMP_CWORD-1}"; do
    case "$called $word" in
      ${allCommands()
        .slice(1)
        .map(({ words }) => `"${words.join(" ")}"`)
        .join(" | ")}) called+=" $word" ;;
    esac
  done
  case $called in
${cases.join("\n")}
  esac
  mapfile -t COMPREPLY < <(compgen -W "$words" -- "$current")
}
complete -o filenames -F _sockerless sockerless
`;
}

/** The completion of zsh. */
export function zshCompletion(): string {
  const cases = allCommands().map(({ words, command }) => {
    const described = [
      ...command.commands.map((each) => entry(each.name(), each.description())),
      ...visibleOptions(command).map((each) => entry(each.long ?? "", each.description)),
    ];
    return `    "${words.join(" ")}") offered=(${described.join(" ")}) ;;`;
  });
  return `#compdef sockerless
_sockerless() {
  local called=sockerless word
  local -a offered
  if [[ $words[CURRENT-1] == (${fileFlags().join("|")}) ]]; then
    _files
    return
  fi
  for word in $words[2,CURRENT-1]; do
    case "$called $word" in
      ${allCommands()
        .slice(1)
        .map(({ words }) => `"${words.join(" ")}"`)
        .join("|")}) called+=" $word" ;;
    esac
  done
  case $called in
${cases.join("\n")}
  esac
  _describe sockerless offered
}
_sockerless "$@"
`;
}

function allCommands(): readonly Called[] {
  const below = ({ words, command }: Called): readonly Called[] => [
    { words, command },
    ...command.commands.flatMap((each) => below({ words: [...words, each.name()], command: each })),
  ];
  return below({ words: ["sockerless"], command: sockerlessProgram() });
}

function subcommands(command: Command): string[] {
  return command.commands.map((each) => each.name());
}

function visibleOptions(command: Command): readonly Option[] {
  return command.options.filter(({ hidden, long }) => !hidden && long !== undefined);
}

function flags(command: Command): string[] {
  return visibleOptions(command).map(({ long }) => long ?? "");
}

/** Flags whose value is a file or a directory. */
function fileFlags(): string[] {
  const all = allCommands().flatMap(({ command }) => visibleOptions(command));
  const named = all.filter(
    ({ long, flags }) => /<file>/.test(flags) || /-dir$|-file$|^--tls/.test(long ?? ""),
  );
  return [...new Set(named.map(({ long }) => long ?? ""))].sort();
}

function entry(word: string, description: string): string {
  const text = description.replaceAll(/[:'"\\`$]/g, " ").replaceAll(/\s+/g, " ");
  return `'${word}:${text}'`;
}

function pageOf({ words }: Called): string {
  return words.join("-");
}

function manPage(called: Called, all: readonly Called[], date: string): string {
  const { words, command } = called;
  const name = pageOf(called);
  const lines = [
    `.TH ${name.toUpperCase()} 1 ${date} sockerless "sockerless"`,
    ".SH NAME",
    `${escaped(name)} \\- ${escaped(command.description().split(". ")[0]?.replace(/\.$/, "") ?? "")}`,
    ".SH SYNOPSIS",
    `.B ${escaped(words.join(" "))}`,
    escaped(command.usage()),
    ".SH DESCRIPTION",
    escaped(command.description()),
  ];
  if (command.commands.length > 0) {
    lines.push(".SH COMMANDS");
    for (const each of command.commands) {
      lines.push(".TP", `.B ${escaped(each.name())}`, escaped(each.description()));
    }
  }
  const options = visibleOptions(command);
  if (options.length > 0) {
    lines.push(".SH OPTIONS");
    for (const option of options) {
      lines.push(".TP", `.B ${escaped(option.flags)}`, escaped(option.description));
    }
  }
  const others = all.filter((each) => each.words.length === 2 || each.words.length === 1);
  const see = others
    .filter((each) => pageOf(each) !== name)
    .map((each) => `.BR ${escaped(pageOf(each))} (1)`);
  lines.push(".SH SEE ALSO", ...see);
  return `${lines.join("\n")}\n`;
}

/** Text in which roff sees no command. */
function escaped(text: string): string {
  return text
    .replaceAll("\\", "\\e")
    .replaceAll("-", "\\-")
    .replaceAll(/^([.'])/gm, "\\&$1");
}
