//! What is known of each form: enough to compare a document that is found with the one to be posted.

/// Where a form keeps what its documents are compared by (form structures of the 星空 WebAPI manual). An empty name
/// stands for a field that the form doesn't have, or that isn't known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Form {
    /// Form id.
    pub id: &'static str,
    /// The base-data field of the partner, as `FSupplierId`.
    pub partner: &'static str,
    /// The entry array.
    pub entries: &'static str,
    /// The base-data field of an entry's material.
    pub material: &'static str,
    /// The quantity of an entry.
    pub quantity: &'static str,
    /// The base-data field of an entry's stock: where goods come to, or go from.
    pub stock: &'static str,
    /// The price of an entry with tax.
    pub tax_price: &'static str,
    /// The price of an entry without tax.
    pub price: &'static str,
}

/// A form without stock and prices.
const fn form(
    id: &'static str,
    partner: &'static str,
    entries: &'static str,
    material: &'static str,
    quantity: &'static str,
) -> Form {
    Form { id, partner, entries, material, quantity, stock: "", tax_price: "", price: "" }
}

const FORMS: [Form; 9] = [
    Form {
        stock: "FStockId",
        tax_price: "FTaxPrice",
        price: "FPrice",
        ..form("STK_InStock", "FSupplierId", "FInStockEntry", "FMaterialId", "FRealQty")
    },
    Form {
        tax_price: "FTaxPrice",
        ..form("PUR_PurchaseOrder", "FSupplierId", "FPOOrderEntry", "FMaterialId", "FQty")
    },
    Form {
        stock: "FSTOCKID",
        tax_price: "FTAXPRICE",
        ..form("PUR_MRB", "FSupplierID", "FPURMRBENTRY", "FMATERIALID", "FRMREALQTY")
    },
    Form {
        tax_price: "FTaxPrice",
        ..form("SAL_SaleOrder", "FCustId", "FSaleOrderEntry", "FMaterialId", "FQty")
    },
    Form {
        stock: "FStockID",
        tax_price: "FTaxPrice",
        ..form("SAL_OUTSTOCK", "FCustomerID", "FEntity", "FMaterialID", "FRealQty")
    },
    Form {
        stock: "FStockId",
        tax_price: "FTaxPrice",
        ..form("SAL_RETURNSTOCK", "FRetcustId", "FEntity", "FMaterialId", "FRealQty")
    },
    Form {
        stock: "FSTOCKID",
        price: "FPrice",
        ..form("STK_MISCELLANEOUS", "", "FEntity", "FMATERIALID", "FQty")
    },
    Form { stock: "FStockId", ..form("STK_MisDelivery", "", "FEntity", "FMaterialId", "FQty") },
    Form { stock: "FDestStockId", ..form("STK_TransferDirect", "", "FBillEntry", "FMaterialId", "FQty") },
];

impl Form {
    /// The form of an id, in any case, if it is known.
    pub fn find(id: &str) -> Option<&'static Form> {
        FORMS.iter().find(|form| form.id.eq_ignore_ascii_case(id))
    }
}
