/** A URL's user information, as it stands in text and, percent-encoded, in a query: scheme, user, password. */
const userInfo =
  /(:\/\/|%3a%2f%2f)((?:(?!%3a|%2f)[^\s"'`<>\\/?#&:])*?)(?:(:|%3a)((?:(?!%2f)[^\s"'`<>\\/?#&])*))?(@|%40)/gi;

/** Query parameters of requests whose values are build arguments or instructions with an environment. */
const secretParameters = /([?&](?:buildargs|changes)=)[^\s"'`<>\\&]*/gi;

/**
 * Masks what a line of a log or a message must not tell: the password of any URL, as Go's HTTP client does
 * (`http://user:***@host`), a user that stands alone (`https://token@host`), and build arguments of a request's path.
 */
export function maskSecrets(text: string): string {
  return text
    .replace(userInfo, (_, scheme: string, user: string, colon: string | undefined, _password, at: string) =>
      colon === undefined ? `${scheme}***${at}` : `${scheme}${user}${colon}***${at}`,
    )
    .replace(secretParameters, "$1***");
}
