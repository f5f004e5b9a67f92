/** Checks of `sockerless doctor` and their findings. */

/** The result of a check: what cannot be asked is `unknown`, never `ok`. */
export interface Finding {
  /** Name of the thing. */
  readonly check: string;
  readonly status: "ok" | "warning" | "wrong" | "unknown";
  /** A description of the thing, or what to do. */
  readonly text: string;
}

/** A look at one thing. */
export interface DoctorCheck {
  readonly check: string;
  /** @throws where the thing cannot be asked */
  look(signal: AbortSignal): Promise<Omit<Finding, "check">>;
}
