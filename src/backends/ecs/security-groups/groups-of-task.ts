/** Which security groups a task carries. Pure. */
import { invalid } from "../../../common/errors.ts";

/** AWS: security groups of one network interface. */
const mostGroups = 5;

/**
 * The groups together, each once.
 *
 * @throws invalid: more than a task can have
 */
export function groupsTogether(groups: readonly string[]): string[] {
  const unique = [...new Set(groups)];
  if (unique.length > mostGroups) {
    throw invalid(
      `a container on the ecs backend can be on so many networks that its task has ${mostGroups} security groups ` +
        `(one for each user-defined network, and the configured ones for the default network), not ${unique.length}`,
    );
  }
  return unique;
}
