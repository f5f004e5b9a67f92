/**
 * Users, roles, keys and permissions. A caller is known by the access key in its request; the signature itself is
 * verified only where it is in the query, since others than the signer send such a call. Policies are evaluated only while {@link Iam.enforced} is set.
 */
import { randomBytes } from "node:crypto";

import type { AccessKey, AccessRequest, PolicyDocument, Principal, Role } from "./access.ts";
import { checkPolicy, evaluate } from "./policy.ts";

const everything: PolicyDocument = {
  Version: "2012-10-17",
  Statement: [{ Sid: "Everything", Effect: "Allow", Action: "*", Resource: "*" }],
};

/** The account's users, roles and keys. */
export class Iam {
  /** Whether policies are evaluated; a caller without a known key is refused either way. */
  enforced = false;
  /** Refused requests, with their times, milliseconds since 1970. */
  readonly denials: { readonly action: string; readonly atMs: number }[] = [];
  readonly #accountId: string;
  readonly #principals = new Map<string, Principal>();
  readonly #secrets = new Map<string, string>();
  readonly #roles = new Map<string, Role>();
  /** Keys of a user that may do everything. */
  readonly administrator: AccessKey;

  constructor(accountId: string) {
    this.#accountId = accountId;
    this.administrator = this.addUser("administrator", [everything]);
  }

  /** Makes a user with these policies, and a key for it. */
  addUser(name: string, policies: readonly PolicyDocument[]): AccessKey {
    for (const policy of policies) {
      checkPolicy(policy);
    }
    return this.#keyFor("AKIA", {
      arn: `arn:aws:iam::${this.#accountId}:user/${name}`,
      userId: identifier("AIDA"),
      policies,
    });
  }

  /** Accepts a key of another simulator, which is another region of the same account. */
  shareKey({ accessKeyId }: AccessKey, from: Iam): void {
    const principal = from.principalOf(accessKeyId);
    if (principal !== undefined) {
      this.#principals.set(accessKeyId, principal);
    }
  }

  /** Makes a role, or replaces it; answers its ARN. */
  addRole(
    name: string,
    role: { readonly trusted: readonly string[]; readonly policies: readonly PolicyDocument[] },
  ): string {
    for (const policy of role.policies) {
      checkPolicy(policy);
    }
    const arn = `arn:aws:iam::${this.#accountId}:role/${name}`;
    this.#roles.set(arn, { arn, ...role });
    return arn;
  }

  removeRole(arn: string): void {
    this.#roles.delete(arn);
  }

  role(arn: string): Role | undefined {
    return this.#roles.get(arn);
  }

  /** Keys of a session of a role, as a task gets them; undefined when there is no such role. */
  assumeRole(arn: string, sessionName: string): AccessKey | undefined {
    const role = this.#roles.get(arn);
    if (role === undefined) {
      return undefined;
    }
    const roleName = arn.split("/").at(-1);
    return this.#keyFor("ASIA", {
      arn: `arn:aws:sts::${this.#accountId}:assumed-role/${roleName}/${sessionName}`,
      userId: `${identifier("AROA")}:${sessionName}`,
      policies: role.policies,
    });
  }

  /** The policies of a user or role; undefined: there is none of this ARN. */
  policiesOf(arn: string): readonly PolicyDocument[] | undefined {
    const user = [...this.#principals.values()].find((each) => each.arn === arn);
    return (user ?? this.#roles.get(arn))?.policies;
  }

  /** The caller that has this access key; undefined: nobody has it. */
  principalOf(accessKeyId: string): Principal | undefined {
    return this.#principals.get(accessKeyId);
  }

  /** The secret of an access key; undefined: nobody has it, or another simulator has given it. */
  secretOf(accessKeyId: string): string | undefined {
    return this.#secrets.get(accessKeyId);
  }

  /** Whether a role's own policies allow a request; always true while policies are not enforced. */
  roleMay(role: Role, request: AccessRequest): boolean {
    return !this.enforced || evaluate(role.policies, request) === "allowed";
  }

  /** The refusal of a principal's request, in AWS's words; undefined when it is allowed. */
  refusal(principal: Principal, request: AccessRequest): string | undefined {
    if (!this.enforced) {
      return undefined;
    }
    const verdict = evaluate(principal.policies, request);
    if (verdict === "allowed") {
      return undefined;
    }
    const { action, resource } = request;
    this.denials.push({ action, atMs: Date.now() });
    const why =
      verdict === "explicitly denied"
        ? "with an explicit deny in an identity-based policy"
        : `because no identity-based policy allows the ${action} action`;
    return `User: ${principal.arn} is not authorized to perform: ${action} on resource: ${resource} ${why}`;
  }

  #keyFor(prefix: string, principal: Principal): AccessKey {
    const accessKeyId = identifier(prefix);
    const secretAccessKey = randomBytes(30).toString("base64");
    this.#principals.set(accessKeyId, principal);
    this.#secrets.set(accessKeyId, secretAccessKey);
    return { accessKeyId, secretAccessKey };
  }
}

/** An ID of four letters that tell the kind, and sixteen more. */
function identifier(prefix: string): string {
  const letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
  return prefix + [...randomBytes(16)].map((byte) => letters[byte % 32]).join("");
}
