/** The words in which services ask for permission. */

/** One permission that a call needs. */
export interface AccessRequest {
  /** `ecs:RunTask` */
  readonly action: string;
  /** ARN, or `*` for an action without resource level. */
  readonly resource: string;
  /** Condition keys with their values, for instance `ecs:cluster`. A key that is absent here is absent in the request. */
  readonly context?: Readonly<Record<string, string | readonly string[]>>;
}

/** A policy document as written. */
export interface PolicyDocument {
  readonly Version?: string;
  readonly Statement: readonly PolicyStatement[];
}

/** A statement of a policy document. */
export interface PolicyStatement {
  readonly Sid?: string;
  readonly Effect: "Allow" | "Deny";
  /** The callers that the statement is about, in the policy of a resource. */
  readonly Principal?: "*" | { readonly AWS: string | readonly string[] };
  readonly Action: string | readonly string[];
  readonly Resource: string | readonly string[];
  readonly Condition?: Readonly<Record<string, Readonly<Record<string, string | readonly string[]>>>>;
}

/** A caller, with the policies that hold for it. */
export interface Principal {
  readonly arn: string;
  readonly userId: string;
  readonly policies: readonly PolicyDocument[];
}

/** A role that tasks can be given. */
export interface Role {
  readonly arn: string;
  /** Services that may assume it, for instance `ecs-tasks.amazonaws.com`. */
  readonly trusted: readonly string[];
  readonly policies: readonly PolicyDocument[];
}

/** Keys of an AWS client. */
export interface AccessKey {
  readonly accessKeyId: string;
  readonly secretAccessKey: string;
}
