/** The checks of the backend's start, as performed by `sockerless doctor`. */
import { messageOf, remedyOf } from "../../../common/errors.ts";
import { type DoctorCheck, ok, unknown, wrong } from "../../../common/finding.ts";
import { CloudError } from "../contract/cloud-error.ts";
import type { StartCheck } from "../contract/platform.ts";

/**
 * Counts a refusal by the cloud as a result, except for a missing permission, which says nothing about the resource.
 */
export function examined(checks: readonly StartCheck[]): readonly DoctorCheck[] {
  return checks.map(({ what, run }) => ({
    check: what,
    async look(signal) {
      try {
        const problem = await run(signal);
        return problem === undefined ? ok() : wrong(problem);
      } catch (error) {
        const isAnswer = error instanceof CloudError && error.outcome === "refused" && !error.isDenied;
        return (isAnswer ? wrong : unknown)(remedyOf(error) ?? messageOf(error));
      }
    },
  }));
}
