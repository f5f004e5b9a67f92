/**
 * Splits Dockerfile text into instructions: comments, line continuation, flags. Error texts are those of BuildKit's
 * parser.
 */

/** An instruction as written. */
export interface Instruction {
  /** Case-insensitive. */
  readonly name: string;
  /** `--interval=5s`, in order. */
  readonly flags: readonly string[];
  /** The text after name and flags, with continued lines joined. */
  readonly rest: string;
}

/** Splits Dockerfile text into its instructions. */
export function parseInstructions(source: string): Instruction[] {
  const instructions: Instruction[] = [];
  let line = "";
  for (const raw of source.replaceAll("\r\n", "\n").split("\n")) {
    if (/^\s*#/.test(raw) || (line !== "" && raw.trim() === "")) {
      continue;
    }
    const continued = /\\[ \t]*$/.test(raw);
    line += (line === "" ? raw.trimStart() : raw).replace(/\\[ \t]*$/, "");
    if (!continued) {
      addInstruction(instructions, line);
      line = "";
    }
  }
  addInstruction(instructions, line);
  return instructions;
}

function addInstruction(instructions: Instruction[], line: string): void {
  const trimmed = line.trim();
  if (trimmed === "") {
    return;
  }
  const [, name = "", after = ""] = /^(\S+)\s*([\s\S]*)$/.exec(trimmed) ?? [];
  const flags: string[] = [];
  let rest = after;
  for (;;) {
    const flag = /^--(\S*)(?:\s+|$)/.exec(rest);
    if (flag === null) {
      break;
    }
    rest = rest.slice(flag[0].length);
    if (flag[1] === "") {
      break;
    }
    flags.push(`--${flag[1]}`);
  }
  instructions.push({ name, flags, rest });
}
