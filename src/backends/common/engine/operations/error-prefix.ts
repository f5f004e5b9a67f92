/** What was to be done, before the reason why it was not: Docker's way to word the failures of some operations. */
import { fromUnknown, SockerlessError } from "../../../../common/errors.ts";

/** Puts before an error's message what was to be done; a 304 stays as it is. */
export async function withErrorPrefix<T>(what: string, task: () => Promise<T>): Promise<T> {
  try {
    return await task();
  } catch (error) {
    const { kind, message } = fromUnknown(error);
    throw kind === "not-modified" ? error : new SockerlessError(kind, `${what}: ${message}`, error);
  }
}
