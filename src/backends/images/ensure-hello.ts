/** The built-in image at a backend's start. */
import { messageOf, remedyOf } from "../../common/errors.ts";
import type { Logger } from "../../common/logger.ts";
import { builtPrograms } from "../../common/built-programs.ts";
import type { Images } from "./images.ts";

/** Time to write an image of 2 MB, and to unpack it if the driver needs that. */
const limitMs = 30_000;

/** Creates `sockerless/hello` if it is missing. The start goes on even if disk or registry fail. */
export async function ensureHello({ builtIn }: Images, logger: Logger): Promise<void> {
  try {
    await builtIn.ensure(builtPrograms.hello, AbortSignal.timeout(limitMs));
  } catch (error) {
    const level = remedyOf(error) === undefined ? "warn" : "debug";
    logger[level]({ err: error }, `the built-in image could not be made: ${messageOf(error)}`);
  }
}
