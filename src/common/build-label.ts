/** The label by which a builder marks its containers and images; no other client may. */
export const buildLabel = "sockerless.build";
