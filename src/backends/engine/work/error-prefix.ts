/** Prefixes errors with the failed operation, as Docker does for some operations. */
import { fromUnknown, SockerlessError } from "../../../common/errors.ts";

/** Prefixes the task's error messages with `what`; a 304 is unchanged. */
export async function withErrorPrefix<T>(what: string, task: () => Promise<T>): Promise<T> {
  try {
    return await task();
  } catch (error) {
    const { kind, message } = fromUnknown(error);
    throw kind === "not-modified" ? error : new SockerlessError(kind, `${what}: ${message}`, error);
  }
}
