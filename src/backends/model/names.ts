/** Names of containers, volumes and networks. */

/** The characters that names of containers and volumes have, two at least, as Docker's messages tell them. */
export const allowedInNames = "[a-zA-Z0-9][a-zA-Z0-9_.-]";

/** Matches a name of such characters. */
export const namePattern = new RegExp(`^${allowedInNames}+$`);

/** Characters of the longest name: names are in lists, and in what other containers are told. */
export const longestName = 255;
