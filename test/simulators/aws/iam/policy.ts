/** Evaluation of identity-based policies: Action, Resource and Condition, as far as policies here use them. */
import type { AccessRequest, PolicyDocument, PolicyStatement } from "./access.ts";

/** What the policies say about a request. */
export type Verdict = "allowed" | "not allowed" | "explicitly denied";

/** The verdict of all policies of a principal: an explicit denial wins, and what nothing allows is not allowed. */
export function evaluate(policies: readonly PolicyDocument[], request: AccessRequest): Verdict {
  const matching = policies.flatMap(({ Statement }) => Statement).filter((each) => concerns(each, request));
  if (matching.some(({ Effect }) => Effect === "Deny")) {
    return "explicitly denied";
  }
  return matching.length > 0 ? "allowed" : "not allowed";
}

/** @throws Error for a document that uses what is not evaluated here, or has a placeholder left in it */
export function checkPolicy(document: PolicyDocument): void {
  for (const statement of document.Statement) {
    for (const text of [...list(statement.Action), ...list(statement.Resource)]) {
      if (/[<>]|\$\{/.test(text)) {
        throw new Error(
          `policy statement ${statement.Sid ?? ""}: ${text} has a placeholder or a variable in it`,
        );
      }
    }
    for (const operator of Object.keys(statement.Condition ?? {})) {
      if (operator !== "Null" && operators[baseOperator(operator)] === undefined) {
        throw new Error(`policy statement ${statement.Sid ?? ""}: no such condition operator: ${operator}`);
      }
    }
  }
}

function concerns({ Action, Resource, Condition }: PolicyStatement, request: AccessRequest): boolean {
  return (
    list(Action).some((pattern) => matches(pattern.toLowerCase(), request.action.toLowerCase())) &&
    list(Resource).some((pattern) => matches(pattern, request.resource)) &&
    Object.entries(Condition ?? {}).every(([operator, keys]) =>
      Object.entries(keys).every(([key, wanted]) => holds(operator, valuesOf(request, key), list(wanted))),
    )
  );
}

/** `*` and `?` stand for anything, slashes and colons included. */
function matches(pattern: string, text: string): boolean {
  const escaped = pattern.replace(/[.+^${}()|[\]\\]/g, "\\$&");
  return new RegExp(`^${escaped.replaceAll("*", ".*").replaceAll("?", ".")}$`, "s").test(text);
}

const isTrue = (text: string): boolean => text.toLowerCase() === "true";

/** Whether one value in the request fits one value in the policy. */
const operators: Record<string, { fits: (actual: string, wanted: string) => boolean; negated?: true }> = {
  StringEquals: { fits: (actual, wanted) => actual === wanted },
  StringNotEquals: { fits: (actual, wanted) => actual === wanted, negated: true },
  StringEqualsIgnoreCase: { fits: (actual, wanted) => actual.toLowerCase() === wanted.toLowerCase() },
  StringLike: { fits: (actual, wanted) => matches(wanted, actual) },
  StringNotLike: { fits: (actual, wanted) => matches(wanted, actual), negated: true },
  ArnEquals: { fits: (actual, wanted) => matches(wanted, actual) },
  ArnLike: { fits: (actual, wanted) => matches(wanted, actual) },
  Bool: { fits: (actual, wanted) => isTrue(actual) === isTrue(wanted) },
};

function baseOperator(operator: string): string {
  return operator.replace(/^For(AnyValue|AllValues):/, "").replace(/IfExists$/, "");
}

function holds(operator: string, actual: readonly string[] | undefined, wanted: readonly string[]): boolean {
  if (operator === "Null") {
    return wanted.some((each) => isTrue(each) === (actual === undefined));
  }
  const { fits, negated } = operators[baseOperator(operator)] ?? { fits: () => false };
  if (actual === undefined) {
    return negated === true || operator.endsWith("IfExists") || operator.startsWith("ForAllValues:");
  }
  const fitsOne = (value: string): boolean => wanted.some((each) => fits(value, each)) !== (negated === true);
  return operator.startsWith("ForAnyValue:") ? actual.some(fitsOne) : actual.every(fitsOne);
}

/** The request's values of a condition key; names of keys have no case, tag keys in them do. */
function valuesOf({ context = {} }: AccessRequest, key: string): readonly string[] | undefined {
  const slash = key.indexOf("/");
  const normal = (name: string): string => {
    const cut = slash < 0 ? name.length : name.indexOf("/");
    return name.slice(0, cut).toLowerCase() + name.slice(cut);
  };
  const found = Object.entries(context).find(([name]) => normal(name) === normal(key));
  return found === undefined ? undefined : list(found[1]);
}

function list(value: string | readonly string[]): readonly string[] {
  return typeof value === "string" ? [value] : value;
}
