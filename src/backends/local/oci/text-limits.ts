/** Bounds the texts of a configuration that the runtime repeats in its errors. */
import { invalid } from "../../../common/errors.ts";
import type { OciSpec } from "./types.ts";

/**
 * The longest text, in characters: an error with some of them fits into the pipe (64 KiB) that takes it, as nobody reads
 * there before the container is created.
 */
const longestText = 4_096;

/** Refuses long texts, but for those that no error repeats: arguments, environment, annotations, seccomp. @throws invalid */
export function refuseLongTexts(spec: OciSpec): void {
  const { annotations: _annotations, mounts, ...others } = spec;
  const {
    args: [command],
    env: _env,
    ...process
  } = spec.process;
  const { seccomp: _seccomp, ...linux } = spec.linux;
  // Options of a mount are repeated together.
  const joined = mounts.map(({ options = [], ...mount }) => ({ ...mount, options: options.join() }));
  for (const text of textsOf({ ...others, process, command, linux, mounts: joined })) {
    if (text.length > longestText) {
      throw invalid(
        `invalid configuration: a text has more than ${longestText} characters: ${text.slice(0, 64)}…`,
      );
    }
  }
}

/** The texts and keys in a value, at any depth. */
function* textsOf(value: unknown): Generator<string> {
  if (typeof value === "string") {
    yield value;
  } else if (typeof value === "object" && value !== null) {
    for (const [key, inner] of Object.entries(value)) {
      yield key;
      yield* textsOf(inner);
    }
  }
}
