/** `WWW-Authenticate` headers (RFC 9110, 11.6.1), to the extent that registries use them. */

/** An authentication scheme offered by a server. */
export interface AuthChallenge {
  /** In lower case: `bearer`, `basic`. */
  readonly scheme: string;
  /** Names in lower case. */
  readonly parameters: ReadonlyMap<string, string>;
}

/** Size limit for headers, as they come from an untrusted server; longer ones are truncated. */
const longestHeader = 8192;

const token = "[!#$%&'*+.^_`|~0-9A-Za-z-]+";
const schemeExpression = new RegExp(`[\\s,]*(${token})(?=[\\s,]|$)(?!\\s*=)`, "y");
const parameterExpression = new RegExp(
  `[\\s,]*(${token})\\s*=\\s*(?:"((?:[^"\\\\]|\\\\.)*)"|(${token}))`,
  "y",
);

/** The challenges in a header's value; several headers are joined by commas. Parsing stops at invalid syntax. */
export function parseChallenges(header: string): AuthChallenge[] {
  const text = header.slice(0, longestHeader);
  const challenges: AuthChallenge[] = [];
  let at = 0;
  for (;;) {
    schemeExpression.lastIndex = at;
    const scheme = schemeExpression.exec(text);
    if (scheme === null) {
      return challenges;
    }
    at = schemeExpression.lastIndex;
    const parameters = new Map<string, string>();
    for (;;) {
      parameterExpression.lastIndex = at;
      const parameter = parameterExpression.exec(text);
      if (parameter === null) {
        break;
      }
      at = parameterExpression.lastIndex;
      const [, name = "", quoted, plain] = parameter;
      parameters.set(name.toLowerCase(), quoted?.replaceAll(/\\(.)/g, "$1") ?? plain ?? "");
    }
    challenges.push({ scheme: (scheme[1] ?? "").toLowerCase(), parameters });
  }
}
