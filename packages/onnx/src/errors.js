/** A model that cannot be read, edited or written as asked. */
export class OnnxError extends Error {
    name = 'OnnxError';
    code;
    /** File, node or offset. */
    where;
    /** How to mend it. */
    hint;
    constructor(code, message, options) {
        super(message, options);
        this.code = code;
        this.where = options?.where;
        this.hint = options?.hint;
    }
}
//# sourceMappingURL=errors.js.map