// Compares float8_multiplier with a pack of `mpsim vectors op --form mem`, read by $readmemh.
//
// iverilog -g2012 -P float8_multiplier_tb.SATURATE=1 -o multiplier.vvp float8_multiplier.v float8_multiplier_tb.v
// vvp -n multiplier.vvp +pack=DIR/SET        (SET: the name of a set, without .a.mem)
module float8_multiplier_tb;
    parameter SATURATE = 1;
    parameter COUNT = 65536;  // the number of vectors of the set

    reg [7:0] a [0:COUNT-1];
    reg [7:0] b [0:COUNT-1];
    reg [7:0] expected [0:COUNT-1];
    reg [7:0] left, right;
    wire [7:0] product;
    reg [8*512-1:0] pack;
    integer i, wrong;

    float8_multiplier #(.SATURATE(SATURATE)) dut (.a(left), .b(right), .product(product));

    initial begin
        if (!$value$plusargs("pack=%s", pack)) $fatal(1, "give +pack=DIR/SET");
        $readmemh($sformatf("%0s.a.mem", pack), a);
        $readmemh($sformatf("%0s.b.mem", pack), b);
        $readmemh($sformatf("%0s.expected.mem", pack), expected);
        if (^expected[COUNT-1] === 1'bx) $fatal(1, "the pack has fewer than %0d vectors", COUNT);
        wrong = 0;
        for (i = 0; i < COUNT; i = i + 1) begin
            left = a[i];
            right = b[i];
            #1;
            if (product !== expected[i]) begin
                if (wrong < 5) $display("%h * %h: got %h, expected %h", left, right, product, expected[i]);
                wrong = wrong + 1;
            end
        end
        if (wrong != 0) $fatal(1, "%0d of %0d products differ", wrong, COUNT);
        $display("all %0d products are equal", COUNT);
        $finish;
    end
endmodule
