/** STS: who a caller is. */

import type { Context } from "../../context.ts";
import { operations, type ServiceHandler } from "../../wire/service.ts";

/** The simulated STS. */
export function stsService({ accountId }: Context): ServiceHandler {
  return {
    name: "sts",
    codes: {
      invalid: "ValidationError",
      throttled: "Throttling",
      denied: "AccessDenied",
      deniedStatus: 403,
      unknownKey: "InvalidClientTokenId",
      unknownKeyStatus: 403,
    },
    operations: operations<typeof import("@aws-sdk/client-sts")>({
      GetCallerIdentity: {
        // No permission is needed, and none can be withheld.
        access: () => [],
        run: (_input, { principal }) => ({
          Account: accountId,
          Arn: principal.arn,
          UserId: principal.userId,
        }),
      },
    }),
  };
}
