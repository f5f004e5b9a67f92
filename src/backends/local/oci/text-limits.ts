/** Bounds the texts of a configuration that the runtime repeats in its errors. */
import { invalid } from "../../../common/errors.ts";
import type { OciSpec } from "./types.ts";

/**
 * The longest text, in characters: the runtime's error quotes several of these, and must fit into a pipe (64 KiB) that is
 * not read until the container is created.
 */
const longestText = 4_096;

/** Refuses long texts, but for those that no error quotes: arguments, environment, annotations, seccomp. @throws invalid */
export function refuseLongTexts(spec: OciSpec): void {
  const { annotations: _annotations, mounts, ...others } = spec;
  const {
    args: [command],
    env: _env,
    ...process
  } = spec.process;
  const { seccomp: _seccomp, ...linux } = spec.linux;
  // Options of a mount are quoted together.
  const joined = mounts.map(({ options = [], ...mount }) => ({ ...mount, options: options.join() }));
  for (const [path, text] of textsOf(
    { ...others, process: { ...process, command }, linux, mounts: joined },
    "",
  )) {
    if (text.length > longestText) {
      throw invalid(`invalid configuration: more than ${longestText} characters in ${path.slice(0, 64)}`);
    }
  }
}

/** The texts and keys in a value, at any depth, each with its path: `.linux.sysctl`. */
function* textsOf(value: unknown, path: string): Generator<readonly [path: string, text: string]> {
  if (typeof value === "string") {
    yield [path, value];
  } else if (typeof value === "object" && value !== null) {
    for (const [key, inner] of Object.entries(value)) {
      yield [path, key];
      yield* textsOf(inner, `${path}.${key}`);
    }
  }
}
