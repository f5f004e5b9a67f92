/** Command lines of npm scripts: they answer `--help`, and a mistake with a line and no stack. */
import { Command, InvalidArgumentError } from "commander";

/** The command line of `npm run NAME`. */
export function npmScript(name: string, description: string): Command {
  return new Command(`npm run ${name} --`)
    .description(description)
    .allowExcessArguments(false)
    .showHelpAfterError("See --help.");
}

/** A number that is none below zero. @throws InvalidArgumentError: it is not one */
export function wholeNumber(text: string): number {
  if (!/^\d+$/.test(text)) {
    throw new InvalidArgumentError("A number is expected.");
  }
  return Number(text);
}

/** Numbers with commas between them; empty: none. @throws InvalidArgumentError: one is not a number */
export function wholeNumbers(text: string): number[] {
  return text.split(",").filter(Boolean).map(wholeNumber);
}
