/** Checks of `sockerless doctor` and their findings. */

/** The result of a check: what cannot be asked is `unknown`, never `ok`. */
export interface Finding {
  /** Name of the thing. */
  readonly check: string;
  readonly status: "ok" | "warning" | "wrong" | "unknown";
  /** A description of the thing, or what to do. */
  readonly text: string;
}

/** A finding without the name of its check. */
export type Result = Omit<Finding, "check">;

/** A look at one thing; it changes nothing that stays. */
export interface DoctorCheck {
  readonly check: string;
  /** @throws where the thing cannot be asked */
  look(signal: AbortSignal): Promise<Result> | Result;
}

/** Expectations of whoever asks. */
export interface Expectations {
  /** Containers that are to run at once. */
  readonly containers: number;
  /** Pods on Kubernetes, or jobs on Azure, may be started to see how that goes. */
  readonly starts: "pod" | "job" | undefined;
}

export function ok(text = ""): Result {
  return { status: "ok", text };
}

/** @param text what will not work, and what to do */
export function warning(text: string): Result {
  return { status: "warning", text };
}

/** @param text what is wrong, and what to do */
export function wrong(text: string): Result {
  return { status: "wrong", text };
}

/** @param text why it cannot be asked */
export function unknown(text: string): Result {
  return { status: "unknown", text };
}

/** From bad to good. */
const byGravity = ["wrong", "unknown", "warning", "ok"] as const;

/** One result of several looks: the gravest, with the texts of those that are as grave. */
export function gravestOf(results: readonly Result[]): Result {
  const status = byGravity.find((each) => results.some((result) => result.status === each)) ?? "ok";
  const texts = results.filter((result) => result.status === status).map(({ text }) => text);
  return { status, text: [...new Set(texts)].filter((text) => text !== "").join("; ") };
}
