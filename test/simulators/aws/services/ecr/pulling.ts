/** How ECS gets at the account's images: with the execution role's rights. */
import type { ImageRegistry } from "../../cloud.ts";
import type { Context } from "../../context.ts";
import { AwsFault } from "../../wire/service.ts";
import type { EcrState } from "./state.ts";

/** The registry as tasks pull from it. */
export function imageRegistry({ iam }: Context, state: EcrState, host: string): ImageRegistry {
  return {
    host,
    credentialsFor(roleArn) {
      const session = iam.assumeRole(roleArn, "ecs-execution-session");
      const principal = session === undefined ? undefined : iam.principalOf(session.accessKeyId);
      if (principal === undefined) {
        const message = `ECS was unable to assume the role '${roleArn}' that was provided for this task.`;
        throw new AwsFault("ClientException", message);
      }
      const refusal = iam.refusal(principal, { action: "ecr:GetAuthorizationToken", resource: "*" });
      if (refusal !== undefined) {
        throw new AwsFault("AccessDeniedException", refusal);
      }
      return { username: "AWS", password: state.issueToken(principal).password };
    },
  };
}
