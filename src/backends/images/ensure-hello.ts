/** The built-in image at the start of a backend. */
import { messageOf, remedyOf } from "../../common/errors.ts";
import type { Logger } from "../../common/logger.ts";
import { builtPrograms } from "../../common/built-programs.ts";
import type { Images } from "./images.ts";

/** Writing an image of 2 MB, and unpacking it where the driver wants that. */
const limitMs = 30_000;

/** Makes `sockerless/hello` where it is missing. A disk or a registry that does not take it ends no start. */
export async function ensureHello({ builtIn }: Images, logger: Logger): Promise<void> {
  try {
    await builtIn.ensure(builtPrograms.hello, AbortSignal.timeout(limitMs));
  } catch (error) {
    const level = remedyOf(error) === undefined ? "warn" : "debug";
    logger[level]({ err: error }, `the built-in image could not be made: ${messageOf(error)}`);
  }
}
