/** Evaluation of policies: Action, Resource, Condition, and a resource's Principal, as far as policies here use them. */
import type { AccessRequest, PolicyDocument, PolicyStatement, Role } from "./access.ts";

/** The answer of policies to a request. */
export type Verdict = "allowed" | "not allowed" | "explicitly denied";

/** The verdict of all policies of a principal: an explicit denial wins, and without a permission nothing is allowed. */
export function evaluate(policies: readonly PolicyDocument[], request: AccessRequest): Verdict {
  return verdictOf(statementsOf(policies), request);
}

/**
 * The verdict of a resource's policy together with the caller's own: each may allow, and a denial by either wins.
 *
 * @param caller undefined: nobody, as when a request is not signed
 */
export function evaluateOnResource(
  resourcePolicy: PolicyDocument,
  caller: Role | undefined,
  request: AccessRequest,
): Verdict {
  const context = caller === undefined ? {} : { "aws:PrincipalArn": caller.arn };
  const about = resourcePolicy.Statement.filter((each) => isAbout(each, caller));
  return verdictOf([...about, ...statementsOf(caller?.policies ?? [])], {
    ...request,
    context: { ...request.context, ...context },
  });
}

function statementsOf(policies: readonly PolicyDocument[]): PolicyStatement[] {
  return policies.flatMap(({ Statement }) => Statement);
}

function verdictOf(statements: readonly PolicyStatement[], request: AccessRequest): Verdict {
  const matching = statements.filter((each) => concerns(each, request));
  if (matching.some(({ Effect }) => Effect === "Deny")) {
    return "explicitly denied";
  }
  return matching.length > 0 ? "allowed" : "not allowed";
}

/**
 * Whether a statement is about a caller. Permission for the account alone gives no role the right: it only lets the
 * account's roles have it by their own policies.
 */
function isAbout({ Principal, Effect }: PolicyStatement, caller: Role | undefined): boolean {
  const named = Principal === undefined ? [] : Principal === "*" ? ["*"] : list(Principal.AWS);
  return named.some((each) => {
    const account = /^(?:arn:[a-z-]+:iam::)?(\d{12})(?::root)?$/.exec(each)?.[1];
    return account === undefined
      ? each === "*" || each === caller?.arn
      : Effect === "Deny" && caller?.arn.includes(`::${account}:`) === true;
  });
}

/** @throws Error as {@link checkPolicy}, and for a statement without a principal */
export function checkResourcePolicy(document: PolicyDocument): void {
  checkPolicy(document);
  for (const { Sid = "", Principal } of document.Statement) {
    if (Principal === undefined) {
      throw new Error(`policy statement ${Sid}: it has no Principal`);
    }
  }
}

/** @throws Error for a document that uses what is not evaluated here, or has a placeholder left in it */
export function checkPolicy(document: PolicyDocument): void {
  for (const statement of document.Statement) {
    const wanted = Object.values(statement.Condition ?? {}).flatMap((keys) =>
      Object.values(keys).flatMap(list),
    );
    for (const text of [...list(statement.Action), ...list(statement.Resource), ...wanted]) {
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
  ArnNotEquals: { fits: (actual, wanted) => matches(wanted, actual), negated: true },
  ArnLike: { fits: (actual, wanted) => matches(wanted, actual) },
  ArnNotLike: { fits: (actual, wanted) => matches(wanted, actual), negated: true },
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
