/** Prefixes errors with the operation that failed, as Docker words the failures of some operations. */
import { fromUnknown, SockerlessError } from "../../../common/errors.ts";

/** Puts `what` before the message of an error that the task throws; a 304 stays as it is. */
export async function withErrorPrefix<T>(what: string, task: () => Promise<T>): Promise<T> {
  try {
    return await task();
  } catch (error) {
    const { kind, message } = fromUnknown(error);
    throw kind === "not-modified" ? error : new SockerlessError(kind, `${what}: ${message}`, error);
  }
}
