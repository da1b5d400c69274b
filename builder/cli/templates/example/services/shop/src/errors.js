/** The request is wrong; its client gets to know why. */
export class Refusal extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

/** The database did not answer before the request's deadline. Whether it did the work is unknown; try again later. */
export class Unavailable extends Error {
  constructor(cause) {
    super(`the database is not available: ${cause.message}`, { cause });
    this.code = cause.code;
  }
}
