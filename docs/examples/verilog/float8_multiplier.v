// Multiplies two float8_e4m3fn numbers and rounds the product to float8_e4m3fn, to nearest, ties to even.
//
// A code is sign, 4 exponent bits (bias 7), 3 mantissa bits. 7f and ff are NaN, and there is no infinity. With SATURATE, a
// product beyond 448 becomes 448 with its sign (code 7e or fe). Without, it becomes NaN with its sign.
module float8_multiplier #(
    parameter SATURATE = 1
) (
    input  wire [7:0] a,
    input  wire [7:0] b,
    output wire [7:0] product
);
    wire sign = a[7] ^ b[7];
    wire is_nan = (&a[6:0]) | (&b[6:0]);

    // Significands with their hidden bit. A subnormal number has exponent 1 and no hidden bit.
    wire [3:0] left = {|a[6:3], a[2:0]};
    wire [3:0] right = {|b[6:3], b[2:0]};
    wire [4:0] exponents = (a[6:3] == 0 ? 5'd1 : {1'b0, a[6:3]}) + (b[6:3] == 0 ? 5'd1 : {1'b0, b[6:3]});

    // |a * b| = exact * 2^(exponents - 20), exactly.
    wire [7:0] exact = left * right;

    // The place of the leading bit of the exact product.
    reg [2:0] leading;
    integer i;
    always @* begin
        leading = 0;
        for (i = 0; i < 8; i = i + 1)
            if (exact[i]) leading = i[2:0];
    end

    // The quantum of the result is 2^quantum: four significant bits, but at least 2^-9, the smallest subnormal number.
    wire signed [6:0] scale = $signed({2'b00, exponents}) - 7'sd20;
    wire signed [6:0] normal = $signed({4'b0000, leading}) + scale - 7'sd3;
    wire signed [6:0] quantum = (normal < -7'sd9 || exact == 0) ? -7'sd9 : normal;

    // The product in units of 2^-11 of the quantum. What a shift of more than 11 loses is far below half a quantum.
    wire signed [6:0] right_shift = quantum - scale;
    wire [18:0] wide = right_shift < 0 ? {exact, 11'b0} << (-right_shift) : {exact, 11'b0} >> right_shift;
    wire [3:0] keep = wide[14:11];
    wire half = wide[10];
    wire rest = |wide[9:0];
    wire round_up = half & (rest | keep[0]);

    // Exponent field and mantissa side by side: a significand that rounds up to 16 carries into the exponent.
    wire [9:0] biased = quantum + 7'sd9;
    wire [9:0] magnitude = (biased << 3) + {6'b0, keep} + {9'b0, round_up};
    wire overflows = magnitude > 10'h07e;

    assign product = is_nan ? 8'h7f
                   : overflows ? {sign, SATURATE ? 7'h7e : 7'h7f}
                   : {sign, magnitude[6:0]};
endmodule
