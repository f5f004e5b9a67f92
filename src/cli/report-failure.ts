/** The last words of a program that cannot continue. */
import { messageOf, SockerlessError } from "../common/errors.ts";

/** Prints why a program cannot continue: one line for our own errors, others with their stack. */
export function reportFailure(name: string, error: unknown): void {
  const expected = error instanceof SockerlessError;
  const text = expected || !(error instanceof Error) ? messageOf(error) : (error.stack ?? error.message);
  process.stderr.write(`sockerless ${name}: ${text}\n`);
}
